import { render } from "preact";
import { expect, test } from "vitest";
import { group } from "../../fixture/generate";
import { GroupView } from "./GroupView";

const HOSTILE = `<script>document.title = "taken"</script><img src=x onerror="document.title='taken'"><a href="javascript:1">x</a>`;

function drawn(change: (detail: ReturnType<typeof group>) => void): HTMLElement {
  const detail = group(3, "run", 1, 3);
  change(detail);
  const root = document.createElement("div");
  document.body.replaceChildren(root);
  render(<GroupView detail={detail} at={null} onLook={() => undefined} />, root);
  return root;
}

test("hostile texts stay text, wherever they stand", () => {
  const root = drawn((detail) => {
    detail.prompt = [{ role: HOSTILE, content: HOSTILE }];
    detail.references = [HOSTILE];
    detail.group_id = HOSTILE;
    for (const one of detail.members) {
      one.id = HOSTILE;
      one.response = `<think>x</think>${HOSTILE}`;
      one.flags = [HOSTILE];
      for (const segment of one.segments ?? []) segment.text = HOSTILE;
    }
  });
  expect(root.querySelectorAll("script, img, a")).toHaveLength(0);
  expect(root.textContent).toContain(HOSTILE);
});

test("a text of any length is there in full", () => {
  const long = Array.from({ length: 5000 }, (_, at) => `word${at}`).join(" ");
  const root = drawn((detail) => {
    const segment = detail.members[0]?.segments?.[0];
    if (segment) segment.text = long;
  });
  expect(root.textContent).toContain(long);
});

test("every member has its reward, and an error says why there is none", () => {
  const root = drawn((detail) => {
    const [, second] = detail.members;
    if (second) Object.assign(second, { status: "error", reward: null, components: null, segments: null, error: { code: "context_too_long", message: "it is too long" } });
  });
  expect(root.querySelectorAll(".member")).toHaveLength(3);
  expect(root.querySelectorAll(".member")[1]?.textContent).toContain("it is too long");
});

test("a group without texts says so", () => {
  const root = drawn((detail) => {
    detail.prompt = detail.references = null;
    for (const one of detail.members) one.response = null;
  });
  expect(root.textContent).toContain("This text was not kept.");
});
