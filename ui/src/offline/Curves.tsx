// Charts of a training whose numbers are all there: several quantities in one, thin as logged, thick as a running mean.

import { useSignal } from "@preact/signals";
import type { ComponentProps } from "preact";
import { LineChart, type Line } from "../charts/LineChart";
import { nearest } from "../charts/scale";
import { plain } from "../format";

export interface Charts {
  about: string;
  charts: { title: string; quantities: Quantity[] }[];
}

interface Quantity {
  name: string;
  /** [step, value] of every step, of the running mean, and on validation tasks. */
  logged: [number, number][];
  smooth: [number, number][];
  validation: [number, number][];
}

const MOST_BESIDE_TITLE = 3;

export function CurvesView({ about, charts }: Charts) {
  const at = useSignal<number | null>(null);
  const steps = charts.flatMap((one) => one.quantities.flatMap((each) => [...each.logged, ...each.validation].map(([step]) => step)));
  const xs: ComponentProps<typeof LineChart>["xs"] = steps.length === 0 ? null : around(Math.min(...steps), Math.max(...steps));
  return (
    <div class="charts">
      {charts.map((one) => (
        <div key={one.title} class="card">
          <LineChart title={one.title} about={about} lines={one.quantities.flatMap(linesOf)} xs={xs} at={at} show={brief} height={200} read={one.quantities.length <= MOST_BESIDE_TITLE} />
          {one.quantities.length > 1 && (
            <p class="legend">
              {one.quantities.map((each, place) => (
                <span key={place} class={`key member-${place % 8}`}><i class={place < 8 ? "line" : "line dashed"} /> {each.name} {one.quantities.length > MOST_BESIDE_TITLE && <b>{valueAt(each, at.value)}</b>}</span>
              ))}
            </p>
          )}
        </div>
      ))}
    </div>
  );
}

function valueAt({ smooth }: Quantity, step: number | null): string {
  const chosen = step === null ? null : nearest(smooth.map(([x]) => x), step);
  const found = chosen === null ? smooth.at(-1) : smooth.find(([x]) => x === chosen);
  return found ? brief(found[1]) : "–";
}

function linesOf(each: Quantity, place: number): Line[] {
  const own = { place, tone: `member-${place % 8}`, dashed: place >= 8 };
  const points = (pairs: [number, number][]) => pairs.map(([x, y]) => ({ x, y }));
  return [
    { ...own, name: `${each.name}, logged`, points: points(each.logged), kind: "faint" as const },
    { ...own, name: each.name, points: points(each.smooth) },
    { ...own, name: `${each.name}, validation`, points: points(each.validation), kind: "marks" as const },
  ];
}

function around(low: number, high: number): [number, number] {
  return low === high ? [low - 1, high + 1] : [low, high];
}

function brief(value: number): string {
  return Math.abs(value) >= 100 ? plain(value, 0) : plain(value, Math.abs(value) >= 10 ? 1 : 3);
}
