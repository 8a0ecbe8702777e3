// Linear scales, ticks and paths: the arithmetic of a small chart.

export type Domain = readonly [number, number];

export function domainOf(values: Iterable<number | null>, { pad = 0.06, least = 1e-6 } = {}): Domain | null {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value === null || !Number.isFinite(value)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) return null;
  const span = Math.max(high - low, least, Math.abs(high) * 1e-3);
  const middle = (low + high) / 2;
  return [middle - span * (0.5 + pad), middle + span * (0.5 + pad)];
}

export function scale([low, high]: Domain, [from, to]: Domain): (value: number) => number {
  const span = high - low || 1;
  return (value) => from + ((value - low) / span) * (to - from);
}

/** Round numbers inside a domain, about `wanted` of them. */
export function ticks([low, high]: Domain, wanted = 4): number[] {
  const rough = (high - low) / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((one) => one >= rough) ?? rough;
  const found: number[] = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + 1e-9 * step; at += 1) found.push(at * step + 0); // + 0: never −0
  return found;
}

/** The fewest digits after the point that write all these ticks exactly. */
export function digitsFor(found: readonly number[]): number {
  for (let digits = 0; digits < 6; digits += 1) {
    if (found.every((one) => Math.abs(one - Number(one.toFixed(digits))) < 1e-9)) return digits;
  }
  return 6;
}

export interface XY {
  x: number;
  y: number | null;
}

/** The path through points; a point without a value is a gap. */
export function path(points: readonly XY[], x: (v: number) => number, y: (v: number) => number, steps = false): string {
  let text = "";
  let before: { y: number } | null = null;
  for (const point of points) {
    if (point.y === null) {
      before = null;
      continue;
    }
    const [px, py] = [round(x(point.x)), round(y(point.y))];
    if (before === null) text += `M${px} ${py}`;
    else text += steps ? `H${px}V${py}` : `L${px} ${py}`;
    before = { y: py };
  }
  return text;
}

/** The area between two curves over the same points; points without both are left out. */
export function band(
  points: readonly { x: number; low: number | null; high: number | null }[],
  x: (v: number) => number,
  y: (v: number) => number,
): string {
  const whole = points.flatMap(({ x: at, low, high }) => (low === null || high === null ? [] : [{ at, low, high }]));
  if (whole.length < 2) return "";
  const upper = whole.map((p) => `${round(x(p.at))} ${round(y(p.high))}`);
  const lower = whole.map((p) => `${round(x(p.at))} ${round(y(p.low))}`).reverse();
  return `M${upper.join("L")}L${lower.join("L")}Z`;
}

/** At most `most` points that keep every column's extremes, so that a spike stays visible. */
export function thinned<P extends XY>(points: readonly P[], most: number): readonly P[] {
  if (points.length <= most) return points;
  const width = Math.ceil((2 * points.length) / most);
  const kept: P[] = [];
  for (let start = 0; start < points.length; start += width) {
    const column = points.slice(start, start + width).filter((p) => p.y !== null);
    const [first] = column;
    if (!first) continue;
    let low = first;
    let high = first;
    for (const point of column) {
      if ((point.y ?? 0) < (low.y ?? 0)) low = point;
      if ((point.y ?? 0) > (high.y ?? 0)) high = point;
    }
    kept.push(...(low === high ? [low] : low.x < high.x ? [low, high] : [high, low]));
  }
  const last = points.at(-1);
  if (last && kept.at(-1) !== last) kept.push(last);
  return kept;
}

export function nearest(xs: readonly number[], wanted: number): number | null {
  let best: number | null = null;
  for (const x of xs) if (best === null || Math.abs(x - wanted) < Math.abs(best - wanted)) best = x;
  return best;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
