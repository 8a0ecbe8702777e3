// Why a thought counts or not, in words. It says only what the numbers prove, and otherwise that rules decide.

import type { Formula, Segment } from "../api/types";
import { signed } from "../format";

export interface Rules {
  /** Gain per reference token that proves nothing; null where credit knows no margin. */
  margin: number | null;
  /** Shorter thoughts never count. */
  least_tokens: number | null;
  /** Whether reflection is paid; null where that is not known. */
  reflection: boolean | null;
}

export function rulesOf(
  diagnostics: Record<string, number>,
  config: Record<string, unknown>,
  formula: Formula | null,
  components: Record<string, number> | null,
): Rules {
  const least = (config.reflection as { min_tokens?: unknown } | undefined)?.min_tokens;
  const paid = formula?.terms.some((term) => term.component === "reflection");
  return {
    // Without controls it is the least spread between members, which is another thing.
    margin: diagnostics.controls === undefined ? null : (diagnostics.margin ?? null),
    least_tokens: typeof least === "number" ? least : null,
    reflection: formula && components?.reflection !== undefined ? paid === true : null,
  };
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
  if (rules.reflection === false) return one.reflective ? "This reward gives reflection no weight." : "";
  if (one.credited && one.gain <= 0) {
    return `Credited: it reflects, and the reward's weighted log-prob rose, though the plain mean did not (${signed(one.gain)} a token).`;
  }
  if (one.credited) {
    const margin = rules.margin !== null && one.gain > rules.margin ? `, more than the margin of ${rules.margin.toFixed(3)}` : "";
    const what = one.reflective ? "it reflects and" : "it";
    return `Credited: ${what} made the reference likelier by ${signed(one.gain)} a token${margin}.`;
  }
  if (rules.reflection && !one.reflective) return "Not credited: it holds no reflection word.";
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
  return "Not credited by the reward's rules: it holds no reflection word, is short, repeats an earlier thought, follows copied text, or its kind is not paid.";
}
