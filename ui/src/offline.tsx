// The page that `opera-reward score --plot` writes: the same view of a group, its data inside the file.

import { render } from "preact";
import { useState } from "preact/hooks";
import type { ShownGroup } from "./api/types";
import { DiffPanel } from "./group/DiffPanel";
import { GroupView, type Place } from "./group/GroupView";
import { many, plain } from "./format";
import "./styles/page.css";

interface Scored {
  facts: string;
  total: number;
  groups: ShownGroup[];
}

function Offline({ scored }: { scored: Scored }) {
  const [chosen, setChosen] = useState(0);
  const [at, setAt] = useState<Place | null>(null);
  const detail = scored.groups[chosen];
  return (
    <main class="offline-page">
      <header>
        <h1>Scored groups</h1>
        <p class="facts"><span>{scored.facts}</span></p>
      </header>
      {scored.groups.length > 1 && (
        <nav class="group-choice" aria-label="Groups">
          {scored.groups.map((group, place) => (
            <button key={place} type="button" aria-pressed={place === chosen} onClick={() => { setChosen(place); setAt(null); scrollTo({ top: 0 }); }}>
              <b dir="auto">{group.group_id}</b>
              <small>{group.lowest === null || group.highest === null ? "nothing scored" : `${plain(group.lowest, 2)} to ${plain(group.highest, 2)}`}</small>
            </button>
          ))}
          {scored.total > scored.groups.length && <p>The first {scored.groups.length} of {many(scored.total, "group")}.</p>}
        </nav>
      )}
      {detail && (
        <GroupView key={chosen} detail={detail} at={at} onLook={setAt}>
          {detail.members.length > 1 && (
            <details class="card tools">
              <summary>Compare two</summary>
              <DiffPanel members={detail.members} />
            </details>
          )}
        </GroupView>
      )}
    </main>
  );
}

const root = document.getElementById("app");
const data = document.getElementById("data")?.textContent;
if (root && data) {
  root.replaceChildren();
  render(<Offline scored={JSON.parse(data) as Scored} />, root);
}
