import { expect, test } from "vitest";
import type { Segment } from "../api/types";
import { reason, recordGain, rulesOf } from "./reasons";

const RULES = { margin: 0.03, least_tokens: 8, reflection: true };

function thoughts(...levels: [number, Partial<Segment>?][]): Segment[] {
  let before = -2;
  return levels.map(([level, more], index) => {
    const one = { index, start: 20 * index, end: 20 * index + 20, text: "", reflective: true, mean_logprob: level, gain: level - before, credited: false, ...more };
    before = level;
    return one;
  });
}

test.each([
  [[[-1.5, { credited: true }]], 0, /^Credited: it reflects .*\+0\.500.*margin of 0\.030/],
  [[[-2.1, { credited: true }]], 0, /^Credited: .*weighted log-prob rose.*−0\.100/],
  [[[-1.5, { reflective: false }]], 0, /no reflection word/],
  [[[-2.5]], 0, /no likelier \(−0\.500/],
  [[[-1.99]], 0, /within 0\.030/],
  [[[-1], [-1.8], [-1.2]], 2, /an earlier thought/],
  [[[-1, { start: 0, end: 5 }]], 0, /5 tokens, fewer than 8/],
  [[[-1]], 0, /the reward's rules/],
] as [[number, Partial<Segment>?][], number, RegExp][])("%o, thought %i", (levels, index, words) => {
  expect(reason(-2, thoughts(...levels), index, RULES)).toMatch(words);
});

test("a record is counted from the best before, the start included", () => {
  const one = thoughts([-3], [-1.5], [-1.4]);
  expect(recordGain(-2, one, 0)).toBeCloseTo(-1);
  expect(recordGain(-2, one, 2)).toBeCloseTo(0.1);
  expect(recordGain(null, one, 0)).toBeNull();
});

test("rules that an answer does not name are not known", () => {
  expect(rulesOf({}, {}, null, { reflection: 0 })).toEqual({ margin: null, least_tokens: null, reflection: null });
  const formula = { text: "", terms: [{ component: "reflection", weight: 0.5 }] };
  expect(rulesOf({ margin: 0.1, controls: 3 }, { reflection: { min_tokens: 4 } }, formula, { reflection: 0 })).toEqual({
    margin: 0.1, least_tokens: 4, reflection: true,
  });
});

test("a margin between members is no margin of credit, and what has no term in the formula is not paid", () => {
  const formula = { text: "", terms: [{ component: "relative", weight: 1 }] };
  const rules = rulesOf({ margin: 0.05, spread: 1 }, {}, formula, { relative: 0.5, reflection: 0 });
  expect(rules).toEqual({ margin: null, least_tokens: null, reflection: false });
  expect(reason(-2, thoughts([-1.5]), 0, rules)).toMatch(/no weight/);
  expect(reason(-2, thoughts([-1.5, { reflective: false }]), 0, rules)).toBe("");
});

test("a reward that credits every thought asks for no reflection word", () => {
  const rules = rulesOf({}, {}, null, { logprob: -1 });
  expect(reason(-2, thoughts([-2.5, { reflective: false }]), 0, rules)).toMatch(/no likelier/);
});
