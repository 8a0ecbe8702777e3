// Why a thought counts or not, in words. It says only what the numbers prove, and otherwise that rules decide.

import type { Segment } from "../api/types";
import { signed } from "../format";

export interface Rules {
  /** Gain per reference token that proves nothing; from the answer's diagnostics. */
  margin: number | null;
  /** Shorter thoughts never count. */
  least_tokens: number | null;
}

export function rulesOf(diagnostics: Record<string, number>, config: Record<string, unknown>): Rules {
  const reflection = config.reflection as { min_tokens?: unknown } | undefined;
  const least = reflection?.min_tokens;
  return { margin: diagnostics.margin ?? null, least_tokens: typeof least === "number" ? least : null };
}

/** The gain over the best before: `initial` or any earlier thought. */
export function recordGain(initial: number | null, segments: readonly Segment[], index: number): number | null {
  const one = segments[index];
  if (!one) return null;
  const earlier = segments.slice(0, index).map((segment) => segment.mean_logprob);
  const before = initial === null ? earlier : [initial, ...earlier];
  return before.length === 0 ? null : one.mean_logprob - Math.max(...before);
}

export function reason(initial: number | null, segments: readonly Segment[], index: number, rules: Rules): string {
  const one = segments[index];
  if (!one) return "";
  const record = recordGain(initial, segments, index);
  if (one.credited) {
    const margin = rules.margin !== null && one.gain > rules.margin ? `, more than the margin of ${rules.margin.toFixed(3)}` : "";
    const what = one.reflective ? "it reflects and" : "it";
    return `Credited: ${what} made the reference likelier by ${signed(one.gain)} a token${margin}.`;
  }
  if (!one.reflective) return "Not credited: it holds no reflection word.";
  if (one.gain <= 0) return `Not credited: after it the reference was no likelier (${signed(one.gain)} a token).`;
  if (rules.margin !== null && one.gain <= rules.margin) {
    return `Not credited: its gain of ${signed(one.gain)} is within ${rules.margin.toFixed(3)}, what empty thoughts gain here.`;
  }
  if (record !== null && record <= (rules.margin ?? 0)) {
    return `Not credited: an earlier thought had brought the reference to as much (${signed(record)} against the best before).`;
  }
  if (rules.least_tokens !== null && one.end - one.start < rules.least_tokens) {
    return `Not credited: it has ${one.end - one.start} tokens, fewer than ${rules.least_tokens}.`;
  }
  return "Not credited by the reward's rules: it repeats an earlier thought, follows copied text, or its kind is not paid.";
}
