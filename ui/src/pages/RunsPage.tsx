// Every run, and one or two of them as curves.

import { useSignal } from "@preact/signals";
import type { Overview, RunSummary } from "../api/types";
import { Sparkline } from "../charts/Sparkline";
import { ago, count, many, shown } from "../format";
import { go, href } from "../state/route";
import { Completeness } from "./Completeness";
import { RunCharts } from "./RunCharts";

interface Props {
  overview: Overview;
  run: string | undefined;
  other: string | undefined;
}

export function RunsPage({ overview, run, other }: Props) {
  const at = useSignal<number | null>(null);
  const { runs } = overview;
  if (runs.length === 0) return <Nothing />;
  const shownRun = runs.find((one) => one.run === run) ?? (run === undefined ? runs[0] : undefined);
  const beside = runs.find((one) => one.run === other && one.run !== shownRun?.run);
  return (
    <main class="runs-page">
      <aside class="run-list" aria-label="Runs">
        <h2>Runs</h2>
        <ul>
          {runs.map((one) => (
            <li key={one.run}>
              <RunItem one={one} chosen={one.run === shownRun?.run} beside={one.run === beside?.run} current={shownRun?.run} />
            </li>
          ))}
        </ul>
      </aside>
      <section class="run-main">
        {shownRun === undefined ? (
          <p class="problem">No group of the run “{run}” is kept.</p>
        ) : (
          <>
            <div class="run-heads">
              <RunHead one={shownRun} place={0} />
              {beside && <RunHead one={beside} place={1} />}
            </div>
            <RunCharts run={shownRun} beside={beside ?? null} at={at} onPick={(step) => go({ page: "step", run: shownRun.run, step, filter: {} })} />
          </>
        )}
      </section>
    </main>
  );
}

function RunItem({ one, chosen, beside, current }: { one: RunSummary; chosen: boolean; beside: boolean; current: string | undefined }) {
  const last = one.trend.at(-1);
  return (
    <div class={`run-item${chosen ? " chosen run-0" : ""}${beside ? " beside run-1" : ""}`}>
      <a href={href({ page: "runs", run: one.run })} aria-current={chosen ? "true" : undefined}>
        <span class="run-name" dir="auto">{one.run}</span>
        <Sparkline values={one.trend} />
        <span class="run-facts">
          {one.last_step === null ? many(one.groups, "group") : `step ${one.last_step}`}, {shown(last)} · {ago(one.last_time)}
        </span>
      </a>
      {!chosen && current !== undefined && (
        <a class="compare" href={href({ page: "runs", run: current, ...(beside ? {} : { with: one.run }) })} aria-label={beside ? `Take ${one.run} away` : `Put ${one.run} beside ${current}`}>
          {beside ? "×" : "⇄"}
        </a>
      )}
    </div>
  );
}

function RunHead({ one, place }: { one: RunSummary; place: number }) {
  return (
    <div class={`run-head run-${place}`}>
      <h1 dir="auto"><i class="swatch" /> {one.run}</h1>
      <Completeness of={one} />
      <p class="facts">
        <span>{many(one.groups, "group")}</span>
        <span>{many(one.trajectories, "trajectory", "trajectories")}</span>
        {one.first_step !== null && one.last_step !== null && <span>steps {count(one.first_step)} to {count(one.last_step)}</span>}
        <span>{one.rewards.join(", ")}</span>
        <a href={href({ page: "questions", filter: { run: one.run, question: "earns_most" } })}>what earns most?</a>
      </p>
    </div>
  );
}

function Nothing() {
  return (
    <main class="nothing">
      <h1>Nothing was rewarded yet</h1>
      <p>Groups appear here as soon as <code>POST /reward</code> or <code>POST /reward/member</code> has answered.</p>
      <p>To see some now: <code>opera-reward demo --ui</code></p>
    </main>
  );
}
