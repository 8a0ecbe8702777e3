// One quantity over the steps of one run or two. Hover, arrow keys or touch choose a step, click or Enter opens it.

import type { Signal } from "@preact/signals";
import { band, digitsFor, domainOf, nearest, path, scale, thinned, ticks, type Domain } from "./scale";
import { useWidth } from "./useWidth";

export interface Line {
  name: string;
  /** 0 is the run that is looked at, 1 the one beside it. */
  place: number;
  points: { x: number; y: number | null; low?: number | null; high?: number | null }[];
  /** `faint` is drawn behind and not read out; `marks` are points alone. */
  kind?: "faint" | "marks";
  /** Class of its colour; the run's own by default. */
  tone?: string;
  dashed?: boolean;
}

interface Props {
  title: string;
  about: string;
  lines: Line[];
  xs: Domain | null;
  at: Signal<number | null>;
  show: (value: number) => string;
  /** Writes a tick, where a plain number would not do. */
  ticked?: ((value: number) => string) | undefined;
  onPick?: ((x: number) => void) | undefined;
  height?: number;
  /** Whether the values stand beside the title; else whoever draws it says them elsewhere. */
  read?: boolean;
  steps?: boolean;
  zero?: boolean;
}

const LEFT = 46;
const RIGHT = 10;
const TOP = 8;
const BOTTOM = 20;

export function LineChart({ title, about, lines, xs, at, show, ticked, onPick, height = 132, read = true, steps = false, zero = false }: Props) {
  const [ref, width] = useWidth<HTMLDivElement>(360);
  const values = lines.flatMap((line) => line.points.flatMap((p) => [p.y, p.low ?? null, p.high ?? null]));
  const ys = zero ? fromZero(domainOf(values)) : domainOf(values);
  const known = lines[0]?.points.filter((p) => p.y !== null).map((p) => p.x) ?? [];
  const chosen = at.value === null ? null : nearest(known, at.value);
  const readings = lines.filter((line) => line.kind === undefined).map((line) => {
    const point = chosen === null ? line.points.findLast((p) => p.y !== null) : line.points.find((p) => p.x === chosen);
    return { line, value: point?.y ?? null };
  });
  const pick = (x: number | null) => {
    if (x !== null) onPick?.(x);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const index = chosen === null ? known.length - 1 : known.indexOf(chosen);
    const moved = { ArrowLeft: -1, ArrowRight: 1, Home: -known.length, End: known.length }[event.key];
    if (moved !== undefined) {
      event.preventDefault();
      at.value = known[Math.max(0, Math.min(known.length - 1, index + moved))] ?? null;
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      pick(chosen ?? known.at(-1) ?? null);
    }
  };
  const first = readings[0]?.value ?? null;
  const spoken = first === null ? "nothing yet" : `${show(first)} at ${chosen ?? known.at(-1) ?? "–"}`;
  return (
    <figure class="chart">
      <figcaption title={about}>
        <span class="chart-title">{title}</span>
        <span class="chart-values">
          {read && readings.map(({ line, value }) => (
            <b key={line.place} class={toneOf(line)} title={line.name}>{value === null ? "–" : show(value)}</b>
          ))}
        </span>
      </figcaption>
      <div
        ref={ref}
        class="plot"
        role="slider"
        tabIndex={0}
        aria-label={`${title}. ${about}`}
        aria-valuemin={known[0] ?? 0}
        aria-valuemax={known.at(-1) ?? 0}
        aria-valuenow={chosen ?? known.at(-1) ?? 0}
        aria-valuetext={spoken}
        onKeyDown={onKeyDown}
      >
        {ys && xs ? (
          <Plot {...{ lines, xs, ys, width, height, at, chosen, ticked, steps, known, pick }} />
        ) : (
          <p class="empty-chart">nothing yet</p>
        )}
      </div>
    </figure>
  );
}

function toneOf(line: Line): string {
  return line.tone ?? `run-${line.place}`;
}

/** A domain that stands on 0, for shares and counts; one of nothing but zeros is flat on the ground. */
function fromZero(domain: Domain | null): Domain | null {
  return domain && [0, domain[1] > 1e-3 ? domain[1] : 1];
}

interface PlotProps {
  lines: Line[];
  xs: Domain;
  ys: Domain;
  width: number;
  height: number;
  at: Signal<number | null>;
  chosen: number | null;
  ticked: ((value: number) => string) | undefined;
  steps: boolean;
  known: number[];
  pick: (x: number | null) => void;
}

function Plot({ lines, xs, ys, width, height, at, chosen, ticked, steps, known, pick }: PlotProps) {
  const x = scale(xs, [LEFT, width - RIGHT]);
  const y = scale(ys, [height - BOTTOM, TOP]);
  const marks = ticks(ys, height / 60);
  const digits = digitsFor(marks);
  const under = (event: PointerEvent | MouseEvent) => {
    const box = (event.currentTarget as SVGElement).getBoundingClientRect();
    return nearest(known, scale([LEFT, width - RIGHT], xs)(event.clientX - box.left));
  };
  return (
    <svg
      width={width}
      height={height}
      aria-hidden="true"
      onPointerMove={(event) => (at.value = under(event))}
      onPointerLeave={() => (at.value = null)}
      onClick={(event) => pick(under(event))}
    >
      {marks.map((tick) => (
        <g key={tick}>
          <line class="grid" x1={LEFT} x2={width - RIGHT} y1={y(tick)} y2={y(tick)} />
          <text class="tick" x={LEFT - 6} y={y(tick) + 3.5} text-anchor="end">{ticked?.(tick) ?? tick.toFixed(digits)}</text>
        </g>
      ))}
      {ticks(xs, Math.max(2, width / 90)).filter(Number.isInteger).map((tick) => (
        <text key={tick} class="tick" x={x(tick)} y={height - 5} text-anchor="middle">{tick}</text>
      ))}
      {chosen !== null && <line class="cross" x1={x(chosen)} x2={x(chosen)} y1={TOP} y2={height - BOTTOM} />}
      {lines.map((line) => {
        const points = steps ? line.points : thinned(line.points, 2 * width);
        const marked = line.points.filter((p) => p.y !== null);
        return (
          <g key={`${line.place} ${line.kind ?? ""}`} class={`${toneOf(line)} ${line.kind ?? ""}`}>
            <path class="band" d={band(points.map((p) => ({ x: p.x, low: p.low ?? null, high: p.high ?? null })), x, y)} />
            {line.kind !== "marks" && <path class="line" d={path(points, x, y, steps)} stroke-dasharray={line.dashed ? "5 3" : undefined} />}
            {line.kind === "marks" && marked.map((p) => <Diamond key={p.x} cx={x(p.x)} cy={y(p.y ?? 0)} />)}
            {line.kind === undefined && marked.length <= 60 && marked.map((p) => <circle key={p.x} class="dot" cx={x(p.x)} cy={y(p.y ?? 0)} r={2.2} />)}
            {line.kind === undefined && line.points.filter((p) => p.x === chosen && p.y !== null).map((p) => (
              <circle key="chosen" class="dot chosen" cx={x(p.x)} cy={y(p.y ?? 0)} r={4.5} />
            ))}
          </g>
        );
      })}
    </svg>
  );
}

function Diamond({ cx, cy }: { cx: number; cy: number }) {
  return <path class="dot" d={`M${cx} ${cy - 5}L${cx + 5} ${cy}L${cx} ${cy + 5}L${cx - 5} ${cy}Z`} />;
}
