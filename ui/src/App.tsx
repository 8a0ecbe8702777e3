// Which page is shown, and that news is listened to.

import { useEffect } from "preact/hooks";
import { listen, restarted } from "./api/events";
import type { Overview } from "./api/types";
import { GroupPage } from "./pages/GroupPage";
import { Header } from "./pages/Header";
import { KeyPage } from "./pages/KeyPage";
import { QuestionsPage } from "./pages/QuestionsPage";
import { RunsPage } from "./pages/RunsPage";
import { StepPage } from "./pages/StepPage";
import { useAnswer } from "./state/query";
import { route } from "./state/route";
import { key, locked } from "./state/session";

export function App() {
  return locked.value ? <KeyPage /> : <Open key={key.value} />;
}

function Open() {
  useEffect(() => {
    const stop = new AbortController();
    void listen(stop.signal);
    return () => stop.abort();
  }, []);
  const { data, error } = useAnswer<Overview>("ui/api/overview");
  return (
    <>
      <Header overview={data} />
      {error !== null && <p class="banner problem" role="alert">{error}</p>}
      {restarted.value && (
        <p class="banner" role="status">
          The service was started again. {data?.storage.kind === "memory" && "What it had kept in memory is gone. "}
          <button type="button" class="quiet" onClick={() => (restarted.value = false)}>fine</button>
        </p>
      )}
      {data && !data.texts_kept && (
        <p class="banner">Texts are not kept, only numbers. To see them, start the service with <code>--audit-texts</code>.</p>
      )}
      {data && <Page overview={data} />}
    </>
  );
}

function Page({ overview }: { overview: Overview }) {
  const at = route.value;
  switch (at.page) {
    case "runs":
      return <RunsPage overview={overview} run={at.run} other={at.with} />;
    case "step":
      return <StepPage key={`${at.run}/${at.step}`} run={at.run} step={at.step} filter={at.filter} />;
    case "group":
      return <GroupPage key={at.key} id={at.key} member={at.member} thought={at.thought} panel={at.panel} />;
    case "questions":
      return <QuestionsPage overview={overview} filter={at.filter} />;
  }
}
