// One thought: its number, what it gained, its text in full, and why it counts or not.

import type { Segment } from "../api/types";
import { perplexity, signed } from "../format";
import { gainStyle } from "./colour";

interface Props {
  id: string;
  segment: Segment;
  index: number;
  largest: number;
  why: string;
  chosen: boolean;
  onChoose: () => void;
}

export function Thought({ id, segment, index, largest, why, chosen, onChoose }: Props) {
  const tone = segment.gain > 0 ? "good" : segment.gain < 0 ? "bad" : "";
  return (
    <li id={id} class={chosen ? "thought chosen" : "thought"} style={gainStyle(segment.gain, largest)}>
      <button type="button" class="thought-head" aria-pressed={chosen} onClick={onChoose}>
        <span class="thought-number">{index + 1}</span>
        <b class={tone}>{signed(segment.gain)}</b>
        <span>ppl {perplexity(segment.mean_logprob)}</span>
        {segment.reflective && <span class="tag reflective">↺ reflective</span>}
        {segment.credited && <span class="tag credited">✓ credited</span>}
      </button>
      {segment.text !== null && <p class="text" dir="auto">{segment.text.trim()}</p>}
      <p class="why">{why}</p>
    </li>
  );
}
