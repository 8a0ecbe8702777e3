import { expect, test } from "vitest";
import type { Segment } from "../api/types";
import { reason, recordGain, rulesOf } from "./reasons";

const RULES = { margin: 0.03, least_tokens: 8 };

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
  expect(rulesOf({}, {})).toEqual({ margin: null, least_tokens: null });
  expect(rulesOf({ margin: 0.1 }, { reflection: { min_tokens: 4 } })).toEqual({ margin: 0.1, least_tokens: 4 });
});
