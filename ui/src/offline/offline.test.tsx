import { render, type ComponentChild } from "preact";
import { expect, test } from "vitest";
import { group } from "../../fixture/generate";
import { CurvesView } from "./Curves";
import { GroupsView } from "./Groups";

const HOSTILE = "<script>1</script><img src=x>";

function drawn(what: ComponentChild): HTMLElement {
  const root = document.createElement("div");
  document.body.replaceChildren(root);
  render(what, root);
  return root;
}

test("a chart has a thin and a thick line a quantity, and diamonds for validation", () => {
  const quantity = (name: string) => ({
    name, logged: [[1, 0.1], [2, 0.4], [3, 0.2]] as [number, number][], smooth: [[1, 0.1], [2, 0.25], [3, 0.23]] as [number, number][], validation: [[3, 0.9]] as [number, number][],
  });
  const root = drawn(<CurvesView about="all" charts={[{ title: HOSTILE, quantities: [quantity("a"), quantity(HOSTILE)] }]} />);
  expect(root.querySelectorAll("script, img")).toHaveLength(0);
  expect(root.querySelectorAll("path.line")).toHaveLength(4);
  expect(root.querySelectorAll(".faint path.line")).toHaveLength(2);
  expect(root.querySelectorAll(".marks path.dot")).toHaveLength(2);
  expect([...root.querySelectorAll(".chart-values b")].map((one) => one.textContent)).toEqual(["0.230", "0.230"]);
  expect(root.querySelector(".legend")?.textContent).toContain(HOSTILE);
});

test("a chart of one step, and one of none", () => {
  const one = { name: "a", logged: [[7, 1]] as [number, number][], smooth: [[7, 1]] as [number, number][], validation: [] };
  expect(drawn(<CurvesView about="" charts={[{ title: "t", quantities: [one] }]} />).querySelectorAll("svg circle")).toHaveLength(1);
  expect(drawn(<CurvesView about="" charts={[]} />).querySelectorAll("svg")).toHaveLength(0);
});

test("of several groups one is shown, and one can choose", async () => {
  const groups = [group(1, "run", 1, 2), group(2, "run", 1, 3)];
  const root = drawn(<GroupsView groups={groups} total={9} />);
  expect(root.querySelectorAll(".member")).toHaveLength(2);
  expect(root.textContent).toContain("The first 2 of 9 groups.");
  root.querySelectorAll<HTMLButtonElement>(".group-choice button")[1]?.click();
  await new Promise((done) => setTimeout(done, 20));
  expect(root.querySelectorAll(".member")).toHaveLength(3);
});

test("a member says whether an exact check finds it right", () => {
  const detail = group(1, "run", 1, 3);
  detail.members.forEach((one, place) => (one.right = [true, false, null][place] ?? null));
  const cards = [...drawn(<GroupsView groups={[detail]} total={1} />).querySelectorAll(".member")].map((one) => one.textContent);
  expect(cards.map((text) => [text.includes("✓ right"), text.includes("✗ wrong")])).toEqual([[true, false], [false, true], [false, false]]);
});
