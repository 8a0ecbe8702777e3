import { expect, test } from "vitest";
import { href, parse, type Route } from "./route";

const ROUTES: Route[] = [
  { page: "runs" },
  { page: "runs", run: "a/b ?#&% 运行", with: "x=1&y" },
  { page: "step", run: "r", step: 0, filter: {} },
  { page: "step", run: "r/s", step: 12, filter: { reward_min: -0.5, reward_max: 1e-7, flag: "format_gate" } },
  { page: "group", key: 9 },
  { page: "group", key: 9, member: 0, thought: 41 },
  { page: "group", key: 9, member: 3, panel: "answer" },
  { page: "questions", filter: {} },
  { page: "questions", filter: { text: "a & b = c # d", question: "duplicates", run: "r", first_step: 3 } },
  { page: "questions", filter: { sort: "components.relative", descending: false } },
];

test.each(ROUTES)("an address leads back to its view: %o", (route) => {
  expect(parse(href(route))).toEqual(route);
});

test.each(["", "#", "#/nowhere", "#/group/x", "#/group/x?panel=drop", "#/group/-1", "#/group/1.5", "#/run/%E0%A4%A/x", "#/questions?first_step=abc&question=drop"])(
  "an address that says nothing known leads to a page all the same: %s",
  (hash) => expect(["runs", "questions"]).toContain(parse(hash).page),
);

test("what is no question or number is left out of a filter", () => {
  expect(parse("#/questions?first_step=abc&question=drop&reward_min=NaN&text=")).toEqual({ page: "questions", filter: {} });
});
