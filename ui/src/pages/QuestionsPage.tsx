// Trajectories by what one wants to know: filters, orders, and questions with one click.

import { useState } from "preact/hooks";
import { get } from "../api/client";
import type { Filter, GroupDetail, Overview, Question, TrajectoryPage, TrajectoryRow as Row } from "../api/types";
import { Histogram } from "../charts/Histogram";
import { Share } from "../group/Share";
import { count, words } from "../format";
import { TrajectoryRow } from "../lists/TrajectoryRow";
import { VirtualList } from "../lists/VirtualList";
import { rangeOf, without, withRange } from "../state/filter";
import { go, route } from "../state/route";
import { Filters } from "./Filters";

const QUESTIONS: Record<Question, { title: string; about: string }> = {
  earns_most: { title: "What earns most, and why", about: "Highest rewards first, with the component that lifts each above its group." },
  equal: { title: "Paid but equal", about: "Groups in which everybody earns the same: paid, and nothing to learn from." },
  longer_is_better: { title: "Reward up, length up", about: "Groups in which the longer response is always the better paid one, the longest first." },
  duplicates: { title: "Nearest duplicates", about: "Pairs of responses that share most of their words, the nearest first." },
};

/** The filter that the address has by now; a page is drawn a moment later. */
function filterNow(drawn: Filter): Filter {
  const at = route.value;
  return at.page === "questions" ? at.filter : drawn;
}

export function QuestionsPage({ overview, filter }: { overview: Overview; filter: Filter }) {
  const [answer, setAnswer] = useState<TrajectoryPage | null>(null);
  const [picked, setPicked] = useState<ReadonlySet<number>>(new Set());
  const to = (next: Filter) => go({ page: "questions", filter: next }, "replace");
  const pick = (key: number, on: boolean) =>
    setPicked((old) => new Set(on ? [...old, key] : [...old].filter((one) => one !== key)));
  return (
    <main class="list-page questions-page">
      <h1 class="hidden">Questions</h1>
      <div class="presets" role="group" aria-label="Questions">
        {(Object.keys(QUESTIONS) as Question[]).map((one) => (
          <button
            key={one}
            type="button"
            aria-pressed={filter.question === one}
            onClick={() => {
              const rest = without(filter, "question", "sort", "descending");
              to(filter.question === one ? rest : { ...rest, question: one });
            }}
          >
            {QUESTIONS[one].title}
          </button>
        ))}
      </div>
      <Filters runs={overview.runs.map((one) => one.run)} filter={filter} components={answer?.components ?? []} texts={overview.texts_kept} onChange={(change) => to(change(filterNow(filter)))} />
      <section class="card facets">
        {answer?.histogram && (
          <Histogram
            counts={answer.histogram}
            chosen={rangeOf(filter)}
            onChoose={(range) => to(withRange(filter, range))}
          />
        )}
        <div class="facet-flags" role="group" aria-label="Flags of what matches">
          {Object.entries(answer?.flags ?? {}).sort((a, b) => b[1] - a[1]).map(([flag, number]) => (
            <button
              key={flag}
              type="button"
              class="tag flag"
              aria-pressed={filter.flag === flag}
              onClick={() => to(filter.flag === flag ? without(filter, "flag") : { ...filter, flag })}
            >
              {words(flag)} <b>{count(number)}</b>
            </button>
          ))}
        </div>
      </section>
      <p class="hint list-head">
        <span>
          {answer === null ? "…" : `${count(answer.total)} ${answer.total === 1 ? "trajectory" : "trajectories"}.`}{" "}
          {filter.question === undefined ? "" : QUESTIONS[filter.question].about}
        </span>
        {picked.size > 0 && (
          <span class="picked">
            {count(picked.size)} {picked.size === 1 ? "group" : "groups"} chosen
            <Share details={() => Promise.all([...picked].map((key) => get<GroupDetail>(`ui/api/groups/${key}`)))} />
            <button type="button" class="quiet" onClick={() => setPicked(new Set())}>choose none</button>
          </span>
        )}
      </p>
      <VirtualList<Row, TrajectoryPage>
        path="ui/api/trajectories"
        query={filter}
        rowHeight={76}
        label="Trajectories"
        empty="No trajectory matches. Take a filter away."
        onAnswer={setAnswer}
        render={(one) => <TrajectoryRow one={one} picked={picked.has(one.key)} onPick={(on) => pick(one.key, on)} />}
      />
    </main>
  );
}
