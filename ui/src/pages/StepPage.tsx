// One step of a run: how its rewards are spread, and its groups.

import { useState } from "preact/hooks";
import type { Filter, GroupPage, GroupRow as Row } from "../api/types";
import { Histogram } from "../charts/Histogram";
import { count, plain } from "../format";
import { GroupRow } from "../lists/GroupRow";
import { VirtualList } from "../lists/VirtualList";
import { rangeOf, withRange } from "../state/filter";
import { go, href } from "../state/route";

interface Props {
  run: string;
  step: number;
  filter: Filter;
}

export function StepPage({ run, step, filter }: Props) {
  const [page, setPage] = useState<GroupPage | null>(null);
  const query = { ...filter, run, first_step: step, last_step: step };
  const chosen = rangeOf(filter);
  const counts = page?.histogram ?? null;
  const range = counts ?? { low: 0, high: 1 };
  const to = (next: Filter) => go({ page: "step", run, step, filter: next }, "replace");
  return (
    <main class="list-page">
      <nav class="crumbs" aria-label="Where this is">
        <a href={href({ page: "runs", run })} dir="auto">{run}</a>
        <h1>step {count(step)}</h1>
        <span class="turns">
          <a href={href({ page: "step", run, step: Math.max(0, step - 1), filter: {} })} aria-label="Step before">←</a>
          <a href={href({ page: "step", run, step: step + 1, filter: {} })} aria-label="Step after">→</a>
        </span>
        <a href={href({ page: "questions", filter: { run, first_step: step, last_step: step } })}>its trajectories</a>
      </nav>
      <section class="card">
        {counts && (
          <Histogram
            counts={counts}
            chosen={chosen}
            onChoose={(next) => to(withRange(filter, next))}
          />
        )}
        <p class="hint">
          {page === null ? "" : `${count(page.total)} ${page.total === 1 ? "group" : "groups"}`}
          {chosen !== null && ` with a reward from ${plain(chosen[0], 2)} to ${plain(chosen[1], 2)}`}
          {chosen !== null && <button type="button" class="quiet" onClick={() => to(withRange(filter, null))}>show all</button>}
        </p>
      </section>
      <VirtualList<Row, GroupPage>
        path="ui/api/groups"
        query={query}
        rowHeight={64}
        label={`Groups of step ${step}`}
        empty="No group of this step is kept."
        onAnswer={setPage}
        render={(group) => <GroupRow group={group} low={range.low} high={range.high} />}
      />
    </main>
  );
}
