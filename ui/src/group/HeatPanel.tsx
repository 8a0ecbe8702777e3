// The reference token by token: how likely each is, what one thought changed, where the members differ.

import { useState } from "preact/hooks";
import { post } from "../api/client";
import type { GroupDetail } from "../api/types";
import type { RewardAnswer } from "../api/wire";
import { plain, signed } from "../format";
import { explain } from "../state/query";
import { gainStyle, spreadStyle, surpriseStyle } from "../thoughts/colour";
import { heat, type Heat, type Mode } from "../thoughts/heat";
import { choiceOf, requestOf } from "./request";

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
  const [answer, setAnswer] = useState<RewardAnswer | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const [asking, setAsking] = useState(false);
  const [mode, setMode] = useState<Mode>("change");
  const body = requestOf(detail, choiceOf(detail), "tokens");
  if (body === null) return <p class="absent">Tokens are priced by asking again, and the texts of this group were not kept.</p>;
  const ask = () => {
    setAsking(true);
    setProblem(null);
    post<RewardAnswer>("reward", body)
      .then(setAnswer, (error: unknown) => setProblem(explain(error)))
      .finally(() => setAsking(false));
  };
  const group = answer?.groups[0];
  const shown = group ? heat(group, at.member, at.thought, mode) : null;
  const tokens = group?.reference_token_texts ?? shown?.values.map((_, place) => `${place + 1}`) ?? [];
  const moved = answer && answer.model.weight_version !== detail.weight_version;
  return (
    <div class="panel">
      {!answer && (
        <p class="controls">
          <button type="button" class="primary" disabled={asking} onClick={ask}>{asking ? "Asking…" : "Price every token"}</button>
          <span>The service scores the group again, with the same admission as everybody.</span>
        </p>
      )}
      {problem !== null && <p class="problem" role="alert">{problem}</p>}
      {answer && (
        <>
          <p class="controls">
            <label>
              Member{" "}
              <select value={at.member} onChange={(event) => onMember(Number(event.currentTarget.value))}>
                {detail.members.map((one, place) => <option key={place} value={place}>{one.id}</option>)}
              </select>
            </label>
            <span class="segmented" role="group" aria-label="What the colours say">
              {(Object.keys(MODES) as Mode[]).map((one) => (
                <button key={one} type="button" aria-pressed={mode === one} onClick={() => setMode(one)}>{MODES[one]}</button>
              ))}
            </span>
            <span>{at.thought === null ? "at the end" : at.thought < 0 ? "before any thought" : `after thought ${at.thought + 1}`}</span>
          </p>
          {moved && <p class="note">Priced by weights {answer.model.weight_version}; the reward was given by {detail.weight_version}.</p>}
          {shown ? <Tokens tokens={tokens} heat={shown} /> : <p class="absent">This reward does not price the tokens there.</p>}
        </>
      )}
    </div>
  );
}

function Tokens({ tokens, heat: { values, mode } }: { tokens: string[]; heat: Heat }) {
  const largest = Math.max(...values.map(Math.abs), 1e-9);
  const style = (value: number) =>
    mode === "logprob" ? surpriseStyle(value) : mode === "change" ? gainStyle(value, largest) : spreadStyle(value, largest);
  return (
    <p class="text heat" dir="auto">
      {values.map((value, place) => (
        <span key={place} class="token" title={mode === "change" ? signed(value) : plain(value)} style={style(value)}>
          {tokens[place] ?? `[${place + 1}]`}
        </span>
      ))}
    </p>
  );
}
