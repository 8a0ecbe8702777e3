// Tokens in their colours, and what stands out in words.

import { plain, signed } from "../format";
import { visible, type Cell } from "../thoughts/cells";
import { gainStyle, spreadStyle, surpriseStyle } from "../thoughts/colour";
import type { Heat, Mode } from "../thoughts/heat";
import { heatWords } from "../thoughts/heatWords";

const KEYS: Record<Mode, string> = {
  logprob: "The stronger the colour, the less likely the token. No colour: certain; full colour: a log-prob of −6 or less.",
  change: "Green: likelier now; red: less likely. The strongest colour is the largest change here.",
  spread: "The stronger the colour, the more the members differ: the standard deviation of the log-prob over the group.",
};

export function Tokens({ cells, heat: { values, mode }, about }: { cells: readonly Cell[]; heat: Heat; about?: string }) {
  const largest = Math.max(...values.map((value) => Math.abs(value ?? 0)), 1e-9);
  const style = (value: number) =>
    mode === "logprob" ? surpriseStyle(value) : mode === "change" ? gainStyle(value, largest) : spreadStyle(value, largest);
  return (
    <>
      <p class="heat-words" role="status" dir="auto">{about !== undefined && `${about}. `}{heatWords(cells, values, mode)}</p>
      <p class="text heat" dir="auto">
        {cells.map((cell, at) => {
          const value = values[at] ?? null;
          return value === null ? (
            <span key={cell.from} class="token unpriced" title="not priced: the policy did not write it">{visible(cell.text)}</span>
          ) : (
            <span key={cell.from} class="token" title={mode === "change" ? signed(value) : plain(value)} style={style(value)}>{visible(cell.text)}</span>
          );
        })}
      </p>
      <p class="hint">{KEYS[mode]} Point at a token for its number.</p>
    </>
  );
}
