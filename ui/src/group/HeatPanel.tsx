// The reference token by token: how likely each is, what one thought changed, where the members differ.

import { useState } from "preact/hooks";
import type { GroupDetail } from "../api/types";
import type { RewardAnswer } from "../api/wire";
import { usePosted } from "../state/query";
import { cellsOf } from "../thoughts/cells";
import { heat, type Mode } from "../thoughts/heat";
import { MemberChoice } from "./MemberChoice";
import { choiceOf, requestOf } from "./request";
import { Tokens } from "./Tokens";

const MODES: Record<Mode, string> = {
  logprob: "log-prob",
  change: "change by this thought",
  spread: "spread over the group",
};

interface Props {
  detail: GroupDetail;
  at: { member: number; thought: number | null };
  onMember: (member: number) => void;
}

export function HeatPanel({ detail, at, onMember }: Props) {
  const { answer, problem, asking, ask } = usePosted<RewardAnswer>("reward");
  const [mode, setMode] = useState<Mode>("change");
  const body = requestOf(detail, choiceOf(detail), "tokens");
  if (body === null) return <p class="absent">Tokens are priced by asking again, and the texts of this group were not kept.</p>;
  const group = answer?.groups[0];
  const cells = cellsOf(group?.reference_token_texts ?? []);
  const shown = group && cells.length > 0 ? heat(group, at.member, at.thought, mode, cells) : null;
  const moved = answer && answer.model.weight_version !== detail.weight_version;
  return (
    <div class="panel">
      {!answer && (
        <p class="controls">
          <button type="button" class="primary" disabled={asking} onClick={() => ask(body)}>{asking ? "Asking…" : "Price every token"}</button>
          <span>The service scores the group again, with the same admission as everybody.</span>
        </p>
      )}
      {problem !== null && <p class="problem" role="alert">{problem}</p>}
      {answer && (
        <>
          <p class="controls">
            <MemberChoice members={detail.members} chosen={at.member} onChoose={onMember} />
            <span class="segmented" role="group" aria-label="What the colours say">
              {(Object.keys(MODES) as Mode[]).map((one) => (
                <button key={one} type="button" aria-pressed={mode === one} onClick={() => setMode(one)}>{MODES[one]}</button>
              ))}
            </span>
            <span>{at.thought === null ? "at the end" : at.thought < 0 ? "before any thought" : `after thought ${at.thought + 1}`}</span>
          </p>
          {moved && <p class="note">Priced by weights {answer.model.weight_version}; the reward was given by {detail.weight_version}.</p>}
          {shown ? <Tokens cells={cells} heat={shown} /> : <p class="absent">This reward does not price the tokens there.</p>}
        </>
      )}
    </div>
  );
}
