import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { group } from "../../fixture/generate";
import { asCurl, asJsonl, asOtlp, asPython, asTrackio } from "./copy";
import { answersRequestOf, groupOf, requestOf } from "./request";

const HOSTILE = "it's $(rm -rf /) `x` \"y\" \\ \n\u202e</script>\u{1F600}\u0000";

function hostile() {
  const detail = group(1, "run", 2, 2);
  const [first] = detail.members;
  if (first) first.response = HOSTILE;
  return detail;
}

test("JSONL is the group as `opera-reward score` reads it", () => {
  const lines = asJsonl([hostile(), group(2, "run", 2, 2)]).trimEnd().split("\n");
  expect(lines).toHaveLength(2);
  expect(JSON.parse(lines[0] ?? "")).toMatchObject({ group_id: "question 1", task: "open", trajectories: [{ id: "a", response: HOSTILE }, { id: "b" }] });
});

test("a shell passes the curl command on as it is", () => {
  const command = asCurl(hostile(), "http://127.0.0.1:8000/", true).replace(/^curl/, "printf '%s\\n'").replaceAll("\\u0000", "");
  const said = execFileSync("bash", ["-c", command]).toString();
  const body = said.slice(said.indexOf("--data-binary\n") + "--data-binary\n".length);
  const sent = JSON.parse(body) as { groups: { trajectories: { response: string }[] }[] };
  expect(sent.groups[0]?.trajectories[0]?.response).toBe(HOSTILE.replaceAll("\u0000", ""));
  expect(said).toContain("http://127.0.0.1:8000/reward");
});

test("Python reads its copy back", () => {
  const source = asPython(hostile(), "http://x/", false);
  const line = source.split("\n").find((one) => one.startsWith("group = ")) ?? "";
  const program = `import json,sys\nclass Group:\n  model_validate=staticmethod(lambda x: x)\n${line}\nsys.stdout.write(json.dumps(group))`;
  const read = JSON.parse(execFileSync("python3", ["-c", program]).toString()) as { trajectories: { response: string }[] };
  expect(read.trajectories[0]?.response).toBe(HOSTILE);
});

test("traces name run, step, reward and components", () => {
  const [line] = asTrackio([hostile()]).split("\n");
  expect(JSON.parse(line ?? "")).toMatchObject({ messages: [{ role: "user" }, { role: "assistant", content: HOSTILE }], metadata: { run: "run", step: 2, trajectory_id: "a" } });
  const otlp = JSON.parse(asOtlp([hostile()])) as { resourceSpans: { scopeSpans: { spans: { traceId: string; spanId: string; attributes: { key: string }[] }[] }[] }[] };
  const spans = otlp.resourceSpans[0]?.scopeSpans[0]?.spans ?? [];
  expect(spans).toHaveLength(2);
  expect(new Set(spans.map((span) => span.traceId)).size).toBe(1);
  expect(new Set(spans.map((span) => span.spanId)).size).toBe(2);
  expect(spans[0]?.traceId).toMatch(/^[0-9a-f]{32}$/);
  expect(spans[0]?.attributes.map((one) => one.key)).toContain("opera.component.relative");
});

test("a group without its texts cannot be asked again", () => {
  const detail = { ...group(1, "run", 2, 2), prompt: null };
  expect(groupOf(detail)).toBeNull();
  expect(requestOf(detail, { reward: "opera", preset: "paper", config: {} }, "tokens")).toBeNull();
});

test("asking again joins no training run", () => {
  const request = requestOf(group(1, "run", 2, 2), { reward: "opera", preset: "paper", config: {} }, "tokens");
  expect(request).toMatchObject({ run_id: "ask-again", preset: "paper", detail: "tokens" });
});

test("turns are asked as turns and masks go along", () => {
  const detail = group(1, "run", 2, 3);
  const [first, second] = detail.members;
  const turns = [{ role: "assistant", content: "a" }];
  if (first) Object.assign(first, { turns, response: "[assistant]\na" });
  if (second) Object.assign(second, { response: null, response_token_ids: [1, 2], response_mask: [1, 0] });
  expect(groupOf(detail)?.trajectories).toEqual([
    { id: "a", turns },
    { id: "b", response_token_ids: [1, 2], response_mask: [1, 0] },
    { id: "c", response: detail.members[2]?.response },
  ]);
  const request = answersRequestOf(detail);
  expect(request?.places).toEqual([1, 2]);
  expect(request?.body.items).toEqual([
    { context: detail.prompt, target_token_ids: [1, 2], target_mask: [1, 0] },
    { context: detail.prompt, target: detail.members[2]?.response },
  ]);
});

test("a reward without a reference is asked again without one", () => {
  const detail = { ...group(1, "run", 2, 2), references: null, reference_token_ids: null };
  expect(groupOf(detail)).not.toBeNull();
  expect(groupOf(detail)).not.toHaveProperty("reference");
});
