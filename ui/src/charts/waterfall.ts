// The bars of a waterfall. The rest between the terms' sum and the reward is a bar of its own, never hidden.

import type { Formula } from "../api/types";
import { words } from "../format";

export interface Bar {
  label: string;
  kind: "up" | "down" | "gate" | "total";
  from: number;
  to: number;
  component?: string;
}

/** Differences up to here are rounding of the wire, not a gate. */
const ROUNDING = 1e-6;

export function waterfall(
  formula: Formula | null,
  components: Record<string, number>,
  reward: number,
  flags: string[],
): Bar[] {
  const bars: Bar[] = [];
  let level = 0;
  for (const { component, weight } of formula?.terms ?? []) {
    const value = components[component];
    if (value === undefined || weight === 0) continue;
    const to = level + weight * value;
    const label = weight === 1 ? words(component) : `${trimmed(weight)} × ${words(component)}`;
    bars.push({ label, kind: to >= level ? "up" : "down", from: level, to, component });
    level = to;
  }
  if (bars.length > 0 && Math.abs(reward - level) > ROUNDING) {
    bars.push({ label: reasonOf(flags), kind: "gate", from: level, to: reward });
  }
  bars.push({ label: "reward", kind: "total", from: 0, to: reward });
  return bars;
}

function reasonOf(flags: string[]): string {
  const gates = flags.filter((flag) => flag.endsWith("_gate") || flag.startsWith("outcome_"));
  return gates.length > 0 ? gates.map(words).join(", ") : "the reward's rules";
}

function trimmed(weight: number): string {
  return String(Number(weight.toPrecision(3)));
}
