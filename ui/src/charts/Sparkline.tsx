import { domainOf, path, scale } from "./scale";

/** A curve without axes, for a row of a list. */
export function Sparkline({ values, width = 84, height = 24 }: { values: number[]; width?: number; height?: number }) {
  const ys = domainOf(values);
  if (!ys || values.length < 2) return <svg width={width} height={height} aria-hidden="true" />;
  const x = scale([0, values.length - 1], [1.5, width - 1.5]);
  const y = scale(ys, [height - 2, 2]);
  return (
    <svg class="sparkline" width={width} height={height} aria-hidden="true">
      <path class="line" d={path(values.map((value, at) => ({ x: at, y: value })), x, y)} />
    </svg>
  );
}
