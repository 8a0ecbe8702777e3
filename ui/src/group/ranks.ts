/** The place of each reward, 1 the best; equal rewards share the better place; none for what has no reward. */
export function ranks(rewards: readonly (number | null)[]): (number | null)[] {
  return rewards.map((one) => (one === null ? null : 1 + rewards.filter((other) => other !== null && other > one).length));
}
