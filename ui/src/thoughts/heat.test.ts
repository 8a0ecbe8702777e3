import { expect, test } from "vitest";
import { cellsOf } from "./cells";
import { deviation, heat } from "./heat";

const GROUP = {
  initial_mean_logprob: -2, initial_token_logprobs: [-2, -2], diagnostics: {},
  trajectories: [
    { id: "a", status: "ok" as const, reward: 1, components: {}, mean_logprob: -1, token_logprobs: [-1, -3], flags: [], error: null,
      segments: [{ mean_logprob: -1, gain: 1, credited: true, token_logprobs: [-0.5, -2.5] }] },
    { id: "b", status: "ok" as const, reward: 1, components: {}, mean_logprob: -1, token_logprobs: [-3, -3], flags: [], error: null, segments: null },
  ],
};
const CELLS = cellsOf(["x", "y"]);

test("a heat map says what is, what changed, and where members differ", () => {
  expect(heat(GROUP, 0, 0, "logprob", CELLS)?.values).toEqual([-0.5, -2.5]);
  expect(heat(GROUP, 0, 0, "change", CELLS)?.values).toEqual([1.5, -0.5]);
  expect(heat(GROUP, 0, null, "change", CELLS)?.values).toEqual([1, -1]);
  expect(heat(GROUP, 0, null, "spread", CELLS)?.values).toEqual([1, 0]);
});

test("a character of two tokens has one number", () => {
  const one = cellsOf(["bytes:\\xc3", "bytes:\\xa9"]);
  expect(heat(GROUP, 0, 0, "logprob", one)?.values).toEqual([-3]);
  expect(heat(GROUP, 0, 0, "spread", one)?.values).toEqual([1]); // of −4 and −6
});

test("what was not priced has no heat map", () => {
  expect(heat(GROUP, 1, 0, "logprob", CELLS)).toBeNull();
  expect(heat(GROUP, 9, null, "logprob", CELLS)).toBeNull();
});

test("a deviation of nothing is 0", () => {
  expect(deviation([])).toBe(0);
});
