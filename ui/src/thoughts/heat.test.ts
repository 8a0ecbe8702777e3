import { expect, test } from "vitest";
import { deviation, heat } from "./heat";

const GROUP = {
  initial_mean_logprob: -2, initial_token_logprobs: [-2, -2], diagnostics: {},
  trajectories: [
    { id: "a", status: "ok" as const, reward: 1, components: {}, mean_logprob: -1, token_logprobs: [-1, -3], flags: [], error: null,
      segments: [{ mean_logprob: -1, gain: 1, credited: true, token_logprobs: [-0.5, -2.5] }] },
    { id: "b", status: "ok" as const, reward: 1, components: {}, mean_logprob: -1, token_logprobs: [-3, -3], flags: [], error: null, segments: null },
  ],
};

test("a heat map says what is, what changed, and where members differ", () => {
  expect(heat(GROUP, 0, 0, "logprob")?.values).toEqual([-0.5, -2.5]);
  expect(heat(GROUP, 0, 0, "change")?.values).toEqual([1.5, -0.5]);
  expect(heat(GROUP, 0, null, "change")?.values).toEqual([1, -1]);
  expect(heat(GROUP, 0, null, "spread")?.values).toEqual([1, 0]);
});

test("what was not priced has no heat map", () => {
  expect(heat(GROUP, 1, 0, "logprob")).toBeNull();
  expect(heat(GROUP, 9, null, "logprob")).toBeNull();
});

test("a deviation of nothing is 0", () => {
  expect(deviation([])).toBe(0);
});
