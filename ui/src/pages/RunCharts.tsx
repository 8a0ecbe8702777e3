// Small charts over one step axis, with one cross-hair for all.

import type { Signal } from "@preact/signals";
import type { Point, RunSummary, Series } from "../api/types";
import { LineChart, type Line } from "../charts/LineChart";
import { percent, plain, words } from "../format";
import { useAnswer } from "../state/query";

interface Props {
  run: RunSummary;
  beside: RunSummary | null;
  at: Signal<number | null>;
  onPick: (step: number) => void;
}

interface Chart {
  title: string;
  about: string;
  of: (point: Point) => number | null;
  low?: (point: Point) => number | null;
  high?: (point: Point) => number | null;
  show: (value: number) => string;
  steps?: boolean;
  zero?: boolean;
  tall?: boolean;
}

const number = (value: number) => plain(value);
const whole = (value: number) => value.toFixed(0);

const FIXED: Chart[] = [
  { title: "level", about: "exp of the mean log-prob of the reference: is anybody good?", of: (p) => p.level, show: number },
  { title: "equal groups", about: "Share of groups whose rewards are all equal: they teach nothing.", of: (p) => p.equal, show: percent, zero: true },
  { title: "gated", about: "Share of trajectories that a gate paid nothing.", of: (p) => p.gated, show: percent, zero: true },
  { title: "truncated", about: "Share cut off in the thought or before the answer.", of: (p) => p.truncated, show: percent, zero: true },
  { title: "flagged", about: "Share with an indicator of reward hacking.", of: (p) => p.flagged, show: percent, zero: true },
  { title: "length", about: "Mean tokens of a response.", of: (p) => p.tokens, show: whole, zero: true },
  { title: "staleness", about: "Steps since the scoring weights came.", of: (p) => p.staleness, show: whole, steps: true, zero: true },
];

const REWARD: Chart = {
  title: "reward",
  about: "Mean reward; the band is the mean spread inside groups, one standard deviation each way.",
  of: (p) => p.reward,
  low: (p) => (p.reward === null || p.spread === null ? null : p.reward - p.spread),
  high: (p) => (p.reward === null || p.spread === null ? null : p.reward + p.spread),
  show: number,
  tall: true,
};

export function RunCharts({ run, beside, at, onPick }: Props) {
  const own = useAnswer<Series>("ui/api/series", { run: run.run });
  const other = useAnswer<Series>(beside ? "ui/api/series" : null, { run: beside?.run });
  if (own.error !== null && own.data === null) return <p class="problem" role="alert">{own.error}</p>;
  if (own.data === null) return <div class="charts waiting" aria-busy="true" />;
  const series = [own.data.points, other.data?.points ?? []];
  const all = series.flat();
  const xs: [number, number] | null = all.length === 0 ? null : [Math.min(...all.map((p) => p.x)), Math.max(...all.map((p) => p.x))];
  const domain = xs && xs[0] === xs[1] ? ([xs[0] - 1, xs[1] + 1] as const) : xs;
  const names = [...new Set(all.flatMap((point) => Object.keys(point.components)))].filter((name) => name !== "level");
  const components: Chart[] = names.map((name) => ({
    title: words(name),
    about: `Mean of the component ${words(name)}, before its weight.`,
    of: (point) => point.components[name] ?? null,
    show: number,
  }));
  const last = own.data.points.at(-1);
  return (
    <>
      <div class="charts">
        {[REWARD, ...components, ...FIXED].map((chart) => (
          <div key={chart.title} class={chart.tall ? "card tall" : "card"}>
            <LineChart
              title={chart.title}
              about={chart.about}
              xs={domain}
              at={at}
              show={chart.show}
              ticked={chart.show === percent ? percent : undefined}
              onPick={own.data?.by === "step" ? onPick : undefined}
              steps={chart.steps ?? false}
              zero={chart.zero ?? false}
              height={chart.tall ? 260 : 132}
              lines={linesOf(chart, series, beside !== null, [run.run, beside?.run ?? ""])}
            />
          </div>
        ))}
      </div>
      <p class="hint">
        {own.data.by === "step" ? "Click a step, or press Enter on it, to see its groups." : "This run sends no steps: its groups are shown in the order they came."}
        {last && ` Scored now by weights ${last.weight_version}.`}
      </p>
    </>
  );
}

function linesOf(chart: Chart, series: Point[][], both: boolean, names: string[]): Line[] {
  return series.slice(0, both ? 2 : 1).map((points, place) => ({
    name: names[place] ?? "",
    place,
    points: points.map((point) => ({
      x: point.x,
      y: chart.of(point),
      ...(chart.low && chart.high ? { low: chart.low(point), high: chart.high(point) } : {}),
    })),
  }));
}
