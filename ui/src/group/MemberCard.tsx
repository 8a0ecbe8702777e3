// One trajectory of a group: its reward and where that comes from, its thoughts, its answer.

import { useMemo } from "preact/hooks";
import type { ShownGroup, Member } from "../api/types";
import { Waterfall } from "../charts/Waterfall";
import { many, perplexity, plain } from "../format";
import { Flags } from "../lists/Flags";
import { reason, rulesOf } from "../thoughts/reasons";
import { Strip } from "../thoughts/Strip";
import { Thought } from "../thoughts/Thought";
import { Absent } from "./Question";
import { around } from "./response";

interface Props {
  detail: ShownGroup;
  member: Member;
  place: number;
  rank: number | null;
  largest: number;
  chosen: number | null;
  onChoose: (thought: number) => void;
}

export function MemberCard({ detail, member, place, rank, largest, chosen, onChoose }: Props) {
  const { before, after } = useMemo(() => around(member.response ?? ""), [member]);
  const rules = rulesOf(detail.diagnostics, detail.config, detail.formula, member.components);
  const segments = member.segments ?? [];
  return (
    <article id={`member-${place}`} class={`card member member-${place % 8}`} aria-label={`Trajectory ${member.id}`}>
      <header>
        <h3 dir="auto">{member.id}</h3>
        <span class="reward">{member.reward === null ? "–" : plain(member.reward)}</span>
      </header>
      <p class="facts">
        {typeof member.right === "boolean" && <b class={member.right ? "good" : "bad"}>{member.right ? "✓ right" : "✗ wrong"}</b>}
        {rank !== null && <span>{rank} of {detail.scored}</span>}
        {member.tokens !== null && <span>{many(member.tokens, "token")}</span>}
        {member.mean_logprob !== null && <span>perplexity {perplexity(member.mean_logprob)}</span>}
        {!member.fresh && <span>scored again</span>}
      </p>
      {member.flags.length > 0 && <p class="tags"><Flags flags={member.flags} /></p>}
      {member.error && <p class="problem">{member.error.message} <code>{member.error.code}</code></p>}
      {member.reward !== null && member.components && (
        <Waterfall formula={detail.formula} components={member.components} reward={member.reward} flags={member.flags} />
      )}
      {segments.length > 0 && (
        <>
          <Strip segments={segments} largest={largest} chosen={chosen} label={`Thoughts of ${member.id}`} onChoose={onChoose} />
          <ol class="thoughts">
            {segments.map((segment, index) => (
              <Thought
                key={index}
                id={`thought-${place}-${index}`}
                segment={segment}
                index={index}
                largest={largest}
                why={reason(detail.initial_mean_logprob, segments, index, rules)}
                chosen={chosen === index}
                onChoose={() => onChoose(index)}
              />
            ))}
          </ol>
        </>
      )}
      {member.response === null ? (
        <Absent ids={member.response_token_ids} />
      ) : (
        <>
          {segments.length === 0 && before !== "" && <p class="text" dir="auto">{before}</p>}
          <h4>{before === "" ? "Response" : "Answer"}</h4>
          <p class="text answer" dir="auto">{after === "" ? "(empty)" : after}</p>
        </>
      )}
    </article>
  );
}
