// How many trajectories have which reward; a bar chooses its range.

import type { Histogram as Counts } from "../api/types";
import { count, plain } from "../format";
import { digitsFor, ticks } from "./scale";

interface Props {
  counts: Counts;
  chosen: [number, number] | null;
  onChoose: (range: [number, number] | null) => void;
}

export function Histogram({ counts, chosen, onChoose }: Props) {
  const most = Math.max(...counts.counts, 1);
  const width = (counts.high - counts.low) / counts.counts.length;
  const digits = digitsFor(ticks([counts.low, counts.high], 4)) + 1;
  const edge = (place: number) => counts.low + place * width;
  return (
    <div class="histogram" role="group" aria-label="Rewards of the trajectories; a bar chooses its range">
      <div class="bars">
        {counts.counts.map((number, place) => {
          const range: [number, number] = [edge(place), edge(place + 1)];
          const inside = chosen !== null && range[0] < chosen[1] - 1e-9 && range[1] > chosen[0] + 1e-9;
          const exact = chosen !== null && Math.abs(range[0] - chosen[0]) < 1e-9 && Math.abs(range[1] - chosen[1]) < 1e-9;
          const said = `${count(number)} from ${plain(range[0], digits)} to ${plain(range[1], digits)}`;
          return (
            <button
              key={place}
              type="button"
              class={inside ? "bar inside" : "bar"}
              aria-pressed={exact}
              aria-label={said}
              title={said}
              disabled={number === 0}
              onClick={() => onChoose(exact ? null : range)}
            >
              <i style={{ height: `${(100 * number) / most}%` }} />
            </button>
          );
        })}
      </div>
      <div class="edges" aria-hidden="true">
        <span>{plain(counts.low, digits)}</span>
        <span>reward</span>
        <span>{plain(counts.high, digits)}</span>
      </div>
    </div>
  );
}
