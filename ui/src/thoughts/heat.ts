// The numbers of a heat map over the reference's tokens: after a thought, by a thought, over the group.

import type { RewardAnswer } from "../api/wire";
import { overCells, type Cell } from "./cells";

export type Mode = "logprob" | "change" | "spread";

export interface Heat {
  /** One a cell, as all that is drawn; null where nothing was priced. */
  values: (number | null)[];
  mode: Mode;
}

/** Log-probs per reference token after `thought` of `member`; -1 is before any; null is the end. */
export function after(group: RewardAnswer["groups"][0], member: number, thought: number | null): number[] | null {
  const one = group.trajectories[member];
  if (!one) return null;
  if (thought === null) return one.token_logprobs;
  if (thought < 0) return group.initial_token_logprobs ?? null;
  return one.segments?.[thought]?.token_logprobs ?? null;
}

export function heat(group: RewardAnswer["groups"][0], member: number, thought: number | null, mode: Mode, cells: readonly Cell[]): Heat | null {
  const now = after(group, member, thought);
  if (!now) return null;
  const drawn = (values: readonly number[]) => overCells(cells, values);
  if (mode === "logprob") return { values: drawn(now), mode };
  if (mode === "change") {
    const before = after(group, member, thought === null ? -1 : thought - 1);
    return before ? { values: drawn(now.map((value, at) => value - (before[at] ?? value))), mode } : null;
  }
  const ends = group.trajectories.flatMap((one) => (one.token_logprobs ? [drawn(one.token_logprobs)] : []));
  return { values: cells.map((_, at) => deviation(ends.map((end) => end[at] ?? 0))), mode };
}

export function deviation(values: readonly number[]): number {
  if (values.length === 0) return 0;
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
}
