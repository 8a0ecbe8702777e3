// One colour scale for gains and log-probs, so that green means likelier everywhere.

/** Strength and direction of a gain against the largest of its group, as CSS variables. */
export function gainStyle(gain: number, largest: number): Record<string, string> {
  const share = largest > 0 ? Math.min(1, Math.abs(gain) / largest) : 0;
  return { "--tone": gain >= 0 ? "var(--good)" : "var(--bad)", "--strength": `${Math.round(100 * Math.sqrt(share))}%` };
}

/** A log-prob as surprise: 0 is certain, from about -6 on as strong as it gets. */
export function surpriseStyle(logprob: number): Record<string, string> {
  const share = Math.min(1, -logprob / 6);
  return { "--tone": "var(--warm)", "--strength": `${Math.round(100 * share)}%` };
}

export function spreadStyle(deviation: number, largest: number): Record<string, string> {
  const share = largest > 0 ? Math.min(1, deviation / largest) : 0;
  return { "--tone": "var(--reflective)", "--strength": `${Math.round(100 * share)}%` };
}
