// The bar on top: where one can go, whether news comes, where the data lie.

import { connection } from "../api/events";
import type { Overview } from "../api/types";
import { count, megabytes } from "../format";
import { forget, key, locked, setTheme, theme, type Theme } from "../state/session";
import { href, route } from "../state/route";

const NEXT: Record<Theme, Theme> = { system: "dark", dark: "light", light: "system" };
const ICON: Record<Theme, string> = { system: "◐", dark: "●", light: "○" };

export function Header({ overview }: { overview: Overview | null }) {
  const page = route.value.page;
  const asking = page === "questions";
  return (
    <header class="bar">
      <a class="brand" href={href({ page: "runs" })}><img src="./icon.svg" alt="" width="22" height="22" /> opera-reward</a>
      <nav aria-label="Pages">
        <a href={href({ page: "runs" })} aria-current={asking ? undefined : "page"}>Runs</a>
        <a href={href({ page: "questions", filter: {} })} aria-current={asking ? "page" : undefined}>Questions</a>
      </nav>
      <span class="grow" />
      {overview && <StorageNote overview={overview} />}
      <span class={`pulse ${connection.value}`} role="status">
        {connection.value === "live" ? "live" : "reconnecting"}
      </span>
      {key.value !== "" && (
        <button type="button" class="quiet" onClick={() => { forget(); locked.value = true; }}>Forget key</button>
      )}
      <button type="button" class="quiet" title={`Colours: ${theme.value}`} aria-label={`Colours: ${theme.value}; change`} onClick={() => setTheme(NEXT[theme.value])}>
        {ICON[theme.value]}
      </button>
    </header>
  );
}

function StorageNote({ overview: { storage, model } }: { overview: Overview }) {
  const room = storage.limit_bytes === null ? megabytes(storage.bytes) : `${megabytes(storage.bytes)} of ${megabytes(storage.limit_bytes)}`;
  const where = storage.kind === "audit" ? "in the audit log" : "in memory";
  const lost = storage.lost_trajectories > 0 ? ` ${count(storage.lost_trajectories)} trajectories were lost.` : "";
  return (
    <span class="storage" title={`${count(storage.groups)} groups ${where}, ${room}.${lost}`}>
      <span class="wide-only">{model.name} · weights {model.weight_version} · </span>
      {count(storage.groups)} groups{storage.lost_trajectories > 0 && <b class="bad"> {count(storage.lost_trajectories)} lost</b>}
    </span>
  );
}
