// A whole thought process in one line: a block a thought, as wide as it is long, coloured by what it gained.

import type { Segment } from "../api/types";
import { signed } from "../format";
import { gainStyle } from "./colour";

interface Props {
  segments: readonly Segment[];
  /** The largest gain of the group: colours of its members can be compared. */
  largest: number;
  chosen: number | null;
  label: string;
  onChoose: (index: number) => void;
}

export function Strip({ segments, largest, chosen, label, onChoose }: Props) {
  return (
    <div class="strip" role="group" aria-label={label}>
      {segments.map((one, index) => {
        const marks = [one.reflective ? "reflective" : "", one.credited ? "credited" : ""].filter(Boolean).join(", ");
        const said = `Thought ${index + 1}: gain ${signed(one.gain)}${marks ? `, ${marks}` : ""}, ${one.end - one.start} tokens`;
        return (
          <button
            key={index}
            type="button"
            title={said}
            aria-label={said}
            aria-current={chosen === index ? "true" : undefined}
            class={`block${one.credited ? " credited" : ""}${one.reflective ? " reflective" : ""}`}
            style={{ flexGrow: Math.max(4, one.end - one.start), ...gainStyle(one.gain, largest) }}
            onClick={() => onChoose(index)}
          >
            {one.reflective && <span aria-hidden="true">↺</span>}
          </button>
        );
      })}
    </div>
  );
}
