// Groups to choose from, and the chosen one whole; nothing can be asked, as no service is there.

import { useState } from "preact/hooks";
import type { ShownGroup } from "../api/types";
import { DiffPanel } from "../group/DiffPanel";
import { GroupView, type Place } from "../group/GroupView";
import { many, plain } from "../format";

export interface Groups {
  total: number;
  groups: ShownGroup[];
}

export function GroupsView({ groups, total }: Groups) {
  const [chosen, setChosen] = useState(0);
  const [at, setAt] = useState<Place | null>(null);
  const detail = groups[chosen];
  return (
    <>
      {groups.length > 1 && (
        <nav class="group-choice" aria-label="Groups">
          {groups.map((group, place) => (
            <button key={place} type="button" aria-pressed={place === chosen} onClick={() => { setChosen(place); setAt(null); }}>
              <b dir="auto">{group.group_id}</b>
              <small>{group.lowest === null || group.highest === null ? "nothing scored" : `${plain(group.lowest, 2)} to ${plain(group.highest, 2)}`}</small>
            </button>
          ))}
          {total > groups.length && <p>The first {groups.length} of {many(total, "group")}.</p>}
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
    </>
  );
}
