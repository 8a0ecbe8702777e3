// A group, whole: question, curve, members side by side. Knows the group; not where it came from.

import type { ComponentChildren } from "preact";
import { useEffect, useMemo } from "preact/hooks";
import type { ShownGroup } from "../api/types";
import { ThoughtCurve } from "../charts/ThoughtCurve";
import { MemberCard } from "./MemberCard";
import { Question } from "./Question";
import { ranks } from "./ranks";

export interface Place {
  member: number;
  thought: number | null;
}

interface Props {
  detail: ShownGroup;
  at: Place | null;
  onLook: (at: Place) => void;
  /** What can be asked about the group; stands between the curve and the members. */
  children?: ComponentChildren;
}

export function GroupView({ detail, at, onLook, children }: Props) {
  const places = useMemo(() => ranks(detail.members.map((one) => one.reward)), [detail]);
  const largest = useMemo(
    () => Math.max(1e-9, ...detail.members.flatMap((one) => (one.segments ?? []).map((segment) => Math.abs(segment.gain)))),
    [detail],
  );
  useEffect(() => {
    if (at === null) return;
    const id = at.thought === null ? `member-${at.member}` : `thought-${at.member}-${at.thought}`;
    document.getElementById(id)?.scrollIntoView({ block: "nearest", inline: "nearest", behavior: "smooth" });
  }, [at?.member, at?.thought]);
  return (
    <>
      <div class="group-head">
      <Question detail={detail} />
      <section class="card curve-card">
        <h2>How likely the reference is, thought by thought</h2>
        <p class="hint">
          Mean log-prob of a reference token: higher is better, 0 is certain.
          <span class="key"><i class="diamond" /> after a reflective thought</span>
          <span class="key"><i class="ring" /> credited</span>
        </p>
        <ThoughtCurve
          initial={detail.initial_mean_logprob}
          members={detail.members}
          lit={at?.thought === null || !at ? null : { member: at.member, thought: at.thought }}
          onPick={(member, thought) => onLook({ member, thought })}
        />
        <p class="legend">
          {detail.members.map((one, place) => (
            <span key={place} class={`key member-${place % 8}`}><i class="line" /> {one.id}</span>
          ))}
        </p>
        {detail.formula && <p class="formula"><span>reward</span> = {detail.formula.text}</p>}
      </section>
      </div>
      {children}
      <section class="members" aria-label="Members side by side" tabIndex={0}>
        {detail.members.map((member, place) => (
          <MemberCard
            key={place}
            detail={detail}
            member={member}
            place={place}
            rank={places[place] ?? null}
            largest={largest}
            chosen={at?.member === place ? at.thought : null}
            onChoose={(thought) => onLook({ member: place, thought })}
          />
        ))}
      </section>
    </>
  );
}
