// The members' own answers token by token: how likely each token was to the scoring model after prompt and thought.

import { useMemo, useState } from "preact/hooks";
import type { GroupDetail } from "../api/types";
import type { ScoreAnswer } from "../api/wire";
import { usePosted } from "../state/query";
import { cellsOf, overCells, type Cell } from "../thoughts/cells";
import { certainty } from "../thoughts/heatWords";
import { MemberChoice } from "./MemberChoice";
import { answersRequestOf } from "./request";
import { answerStart } from "./response";
import { Tokens } from "./Tokens";

const PARTS = { answer: "answer", whole: "thought and answer" };
type Part = keyof typeof PARTS;

interface Props {
  detail: GroupDetail;
  member: number;
  onMember: (member: number) => void;
}

export function AnswerPanel({ detail, member, onMember }: Props) {
  const { answer, problem, asking, ask } = usePosted<ScoreAnswer>("score");
  const [part, setPart] = useState<Part>("answer");
  const request = useMemo(() => answersRequestOf(detail), [detail]);
  if (request === null) return <p class="absent">Tokens are priced by asking again, and the texts of this group were not kept.</p>;
  if (request.places.length === 0) return <p class="absent">These trajectories have several turns; their tokens cannot be priced from here.</p>;
  const item = answer?.items[request.places.indexOf(member)];
  const moved = answer && answer.model.weight_version !== detail.weight_version;
  return (
    <div class="panel">
      {!answer && (
        <p class="controls">
          <button type="button" class="primary" disabled={asking} onClick={() => ask(request.body)}>{asking ? "Asking…" : "Price every token"}</button>
          <span>The service prices the responses' own tokens, with the same admission as everybody.</span>
        </p>
      )}
      {problem !== null && <p class="problem" role="alert">{problem}</p>}
      {answer && (
        <>
          <p class="controls">
            <MemberChoice members={detail.members} chosen={member} onChoose={onMember} />
            <span class="segmented" role="group" aria-label="What is shown">
              {(Object.keys(PARTS) as Part[]).map((one) => (
                <button key={one} type="button" aria-pressed={part === one} onClick={() => setPart(one)}>{PARTS[one]}</button>
              ))}
            </span>
          </p>
          {moved && <p class="note">Priced by weights {answer.model.weight_version}; the reward was given by {detail.weight_version}.</p>}
          {!item ? (
            <p class="absent">This trajectory has several turns; its tokens cannot be priced from here.</p>
          ) : item.error !== null ? (
            <p class="problem">{item.error.message}</p>
          ) : (
            <Response texts={item.token_texts ?? []} logprobs={item.token_logprobs ?? []} part={part} />
          )}
        </>
      )}
    </div>
  );
}

function Response({ texts, logprobs, part }: { texts: string[]; logprobs: (number | null)[]; part: Part }) {
  const whole = useMemo(() => cellsOf(texts), [texts]);
  const cells = part === "whole" ? whole : answerCells(whole);
  const [first, last] = [cells[0], cells.at(-1)];
  if (!first || !last) return <p class="absent">The answer is empty.</p>;
  const shown = logprobs.slice(first.from, last.to);
  return <Tokens cells={cells} heat={{ values: overCells(cells, logprobs), mode: "logprob" }} about={certainty(shown)} />;
}

/** The cells that hold a character of the answer. */
export function answerCells(cells: readonly Cell[]): Cell[] {
  const start = answerStart(cells.map((one) => one.text).join(""));
  let end = 0;
  return cells.filter((one) => {
    end += one.text.length;
    return end > start;
  });
}
