import { expect, test } from "vitest";
import { waterfall } from "./waterfall";

const FORMULA = { text: "", terms: [{ component: "relative", weight: 1 }, { component: "reflection", weight: 0.5 }, { component: "level", weight: 0 }] };

test("each bar starts where the one before ended, and the last one is the reward", () => {
  const bars = waterfall(FORMULA, { relative: 0.8, reflection: -0.2, level: 0.3 }, 0.7, []);
  expect(bars.map((bar) => bar.label)).toEqual(["relative", "0.5 × reflection", "reward"]);
  expect(bars.map((bar) => bar.kind)).toEqual(["up", "down", "total"]);
  expect(bars[1]?.from).toBeCloseTo(0.8);
  expect(bars[1]?.to).toBeCloseTo(0.7);
});

test("what a gate took is a bar with the gate's name", () => {
  const gate = waterfall(FORMULA, { relative: 0.8, reflection: 0 }, 0, ["repetition", "format_gate"]).find((bar) => bar.kind === "gate");
  expect(gate).toMatchObject({ label: "format gate", from: 0.8, to: 0 });
});

test("a difference that no flag explains is shown all the same", () => {
  expect(waterfall(FORMULA, { relative: 0.8, reflection: 0 }, 1, []).map((bar) => bar.label)).toEqual(["relative", "0.5 × reflection", "the reward's rules", "reward"]);
});

test("without a formula there is only the reward", () => {
  expect(waterfall(null, { relative: 0.8 }, 0.8, []).map((bar) => bar.kind)).toEqual(["total"]);
});
