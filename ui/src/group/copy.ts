// A group for use elsewhere: curl, Python, JSONL, and traces that other tools read.

import type { GroupDetail, Message } from "../api/types";
import { choiceOf, groupOf } from "./request";

export function asJsonl(details: readonly GroupDetail[]): string {
  return lines(details.map(groupOf));
}

export function asCurl(detail: GroupDetail, url: string, withKey: boolean): string {
  const body = JSON.stringify({ ...choiceOf(detail), groups: [groupOf(detail)] });
  const auth = withKey ? ` \\\n  -H "Authorization: Bearer $OPERA_API_KEY"` : "";
  return `curl ${quoted(`${url}reward`)} -H 'Content-Type: application/json'${auth} \\\n  --data-binary ${quoted(body)}\n`;
}

export function asPython(detail: GroupDetail, url: string, withKey: boolean): string {
  const { reward, preset, config } = choiceOf(detail);
  const key = withKey ? `, api_key=os.environ["OPERA_API_KEY"]` : "";
  return [
    ...(withKey ? ["import os", ""] : []),
    "import json",
    "",
    "from opera_client import RewardClient",
    "from opera_client.wire import Group",
    "",
    `group = Group.model_validate(json.loads(${python(JSON.stringify(groupOf(detail)))}))`,
    `with RewardClient(${python(url.replace(/\/$/, ""))}${key}) as client:`,
    `    result = client.reward([group], reward=${python(reward)}, preset=${python(preset)}, config=json.loads(${python(JSON.stringify(config))}))`,
    "print(result.rewards)",
    "",
  ].join("\n");
}

/** One line a trajectory: what `trackio.Trace(**line)` takes. */
export function asTrackio(details: readonly GroupDetail[]): string {
  return lines(details.flatMap((detail) => detail.members.map((_, place) => trackioTrace(detail, place))));
}

function trackioTrace(detail: GroupDetail, place: number): Record<string, unknown> | null {
  const member = detail.members[place];
  if (typeof member?.response !== "string") return null;
  return {
    messages: [...promptMessages(detail), { role: "assistant", content: member.response }],
    metadata: {
      run: detail.run,
      step: detail.step,
      group_id: detail.group_id,
      trajectory_id: member.id,
      reward: member.reward,
      reward_name: detail.reward,
      preset: detail.preset,
      components: member.components,
      flags: member.flags,
      error: member.error?.code ?? null,
      reference: detail.references?.[0] ?? null,
      weight_version: detail.weight_version,
    },
  };
}

/** OpenTelemetry's own JSON with its names for generative models: one trace a group, one span a trajectory. */
export function asOtlp(details: readonly GroupDetail[]): string {
  const spans = details.flatMap((detail) => detail.members.map((_, place) => span(detail, place)));
  const resource = { attributes: attributes({ "service.name": "opera-reward" }) };
  return `${JSON.stringify({ resourceSpans: [{ resource, scopeSpans: [{ scope: { name: "opera-reward.ui" }, spans }] }] })}\n`;
}

function span(detail: GroupDetail, place: number): Record<string, unknown> {
  const member = detail.members[place];
  const nanoseconds = `${Math.round(detail.time * 1000)}000000`;
  const prompt = promptMessages(detail);
  const components = Object.entries(member?.components ?? {}).map(([name, value]) => [`opera.component.${name}`, value]);
  return {
    traceId: hex(`${detail.run}\n${detail.key}\n${detail.time}`, 32),
    spanId: hex(`${detail.key}\n${place}\n${detail.time}`, 16),
    name: `reward ${detail.group_id} ${member?.id ?? place}`,
    kind: 1,
    startTimeUnixNano: nanoseconds,
    endTimeUnixNano: nanoseconds,
    attributes: attributes({
      "gen_ai.operation.name": "chat",
      "gen_ai.request.model": detail.model.name,
      "gen_ai.input.messages": JSON.stringify(prompt.map(part)),
      "gen_ai.output.messages": JSON.stringify([part({ role: "assistant", content: member?.response ?? "" })]),
      "opera.run": detail.run,
      "opera.step": detail.step,
      "opera.group_id": detail.group_id,
      "opera.trajectory_id": member?.id ?? null,
      "opera.reward": member?.reward ?? null,
      "opera.reward_name": detail.reward,
      "opera.preset": detail.preset,
      "opera.weight_version": detail.weight_version,
      "opera.flags": member?.flags.join(",") ?? null,
      ...(Object.fromEntries(components) as Record<string, number>),
    }),
    status: member?.error ? { code: 2, message: member.error.message } : {},
  };
}

function part(message: Message): unknown {
  return { role: message.role, parts: [{ type: "text", content: message.content }] };
}

function attributes(values: Record<string, string | number | null>): unknown[] {
  return Object.entries(values).flatMap(([key, value]) => {
    if (value === null) return [];
    return [{ key, value: typeof value === "number" ? { doubleValue: value } : { stringValue: value } }];
  });
}

function promptMessages(detail: GroupDetail): Message[] {
  if (detail.prompt === null) return [];
  return typeof detail.prompt === "string" ? [{ role: "user", content: detail.prompt }] : detail.prompt;
}

/** Hexadecimal digits that name a text; equal texts have equal names (FNV-1a, seeded by the place). */
function hex(text: string, digits: number): string {
  let name = "";
  for (let seed = 0; name.length < digits; seed += 1) {
    let hash = 0x811c9dc5 ^ seed;
    for (const one of text) hash = Math.imul(hash ^ (one.codePointAt(0) ?? 0), 0x01000193);
    name += (hash >>> 0).toString(16).padStart(8, "0");
  }
  return name.slice(0, digits);
}

function lines(objects: readonly (Record<string, unknown> | null)[]): string {
  return objects.flatMap((one) => (one === null ? [] : [`${JSON.stringify(one)}\n`])).join("");
}

/** For a POSIX shell. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** A Python literal: JSON's strings are Python's, but for surrogate pairs that JSON leaves as they are. */
function python(text: string): string {
  return JSON.stringify(text);
}
