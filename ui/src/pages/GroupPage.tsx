// One group, with everything that can be asked about it.

import type { GroupDetail } from "../api/types";
import { AnswerPanel } from "../group/AnswerPanel";
import { AskAgain } from "../group/AskAgain";
import { DiffPanel } from "../group/DiffPanel";
import { GroupView, type Place } from "../group/GroupView";
import { HeatPanel } from "../group/HeatPanel";
import { Share } from "../group/Share";
import { go, href, type Panel } from "../state/route";
import { useAnswer } from "../state/query";

const PANELS: Record<Panel, string> = {
  reference: "Heat map of the reference",
  answer: "Heat map of the answer",
  differences: "Compare two",
  again: "Ask again",
};

interface Props {
  id: number;
  member: number | undefined;
  thought: number | undefined;
  panel: Panel | undefined;
}

export function GroupPage({ id, member, thought, panel }: Props) {
  const { data, error } = useAnswer<GroupDetail>(`ui/api/groups/${id}`, {}, { live: false });
  if (data === null) return <main class="group-page">{error === null ? <p class="empty" aria-busy="true">…</p> : <p class="problem" role="alert">{error}</p>}</main>;
  const at: Place | null = member === undefined || member >= data.members.length ? null : { member, thought: thought ?? null };
  const show = (to: Place | null, shown: Panel | undefined) => {
    const seen = to === null ? {} : { member: to.member, ...(to.thought === null || to.thought < 0 ? {} : { thought: to.thought }) };
    go({ page: "group", key: id, ...seen, ...(shown ? { panel: shown } : {}) }, "replace");
  };
  const look = (to: Place) => show(to, panel);
  return (
    <main class="group-page">
      <nav class="crumbs" aria-label="Where this is">
        <a href={href({ page: "runs", run: data.run })} dir="auto">{data.run}</a>
        {data.step !== null && <a href={href({ page: "step", run: data.run, step: data.step, filter: {} })}>step {data.step}</a>}
        <h1 dir="auto">{data.group_id}</h1>
        <span class="turns">
          {data.previous !== null && <a href={href({ page: "group", key: data.previous })} aria-label="Group before">←</a>}
          {data.next !== null && <a href={href({ page: "group", key: data.next })} aria-label="Group after">→</a>}
        </span>
        <Share details={() => Promise.resolve([data])} one={data} />
      </nav>
      <p class="facts">
        <span>{data.reward}, {data.preset}{Object.keys(data.config).length > 0 && " with single fields changed"}</span>
        <span>model {data.model.name}, weights {data.weight_version}, {data.model.dtype}</span>
        <span>{new Date(data.time * 1000).toLocaleString()}</span>
        {data.request_id !== null && <span>request {data.request_id}</span>}
      </p>
      <GroupView detail={data} at={at} onLook={look}>
        <section class="tools card">
          <p class="segmented" role="group" aria-label="Ask about this group">
            {(Object.keys(PANELS) as Panel[]).map((one) => (
              <button key={one} type="button" aria-expanded={panel === one} aria-pressed={panel === one} onClick={() => show(at, panel === one ? undefined : one)}>
                {PANELS[one]}
              </button>
            ))}
          </p>
          {panel === "answer" && <AnswerPanel key={id} detail={data} member={at?.member ?? 0} onMember={(next) => look({ member: next, thought: null })} />}
          {panel === "reference" && <HeatPanel key={id} detail={data} at={at ?? { member: 0, thought: null }} onMember={(next) => look({ member: next, thought: null })} />}
          {panel === "differences" && <DiffPanel key={id} members={data.members} />}
          {panel === "again" && <AskAgain key={id} detail={data} />}
        </section>
      </GroupView>
    </main>
  );
}
