import type { Filter } from "../api/types";

/** `filter` without some of its fields. */
export function without(filter: Filter, ...names: (keyof Filter)[]): Filter {
  return Object.fromEntries(Object.entries(filter).filter(([name]) => !names.includes(name as keyof Filter)));
}

/** The range of rewards that a bar of a histogram chose, or null. */
export function rangeOf(filter: Filter): [number, number] | null {
  const { reward_min: low, reward_max: high } = filter;
  return low === undefined || high === undefined ? null : [low, high];
}

export function withRange(filter: Filter, range: [number, number] | null): Filter {
  const rest = without(filter, "reward_min", "reward_max");
  return range === null ? rest : { ...rest, reward_min: range[0], reward_max: range[1] };
}
