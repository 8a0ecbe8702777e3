// One trajectory in a list: what it earned, what for, and how it begins.

import type { TrajectoryRow as Trajectory } from "../api/types";
import { plain, signed, words } from "../format";
import { href } from "../state/route";
import { Flags } from "./Flags";

interface Props {
  one: Trajectory;
  picked: boolean;
  onPick: (picked: boolean) => void;
}

export function TrajectoryRow({ one, picked, onPick }: Props) {
  const where = one.step === null ? one.run : `${one.run}, step ${one.step}`;
  return (
    <div class="row trajectory-row">
      <input
        type="checkbox"
        checked={picked}
        aria-label={`Choose group ${one.group_id} for export`}
        onChange={(event) => onPick(event.currentTarget.checked)}
      />
      <a class="row-link" href={href({ page: "group", key: one.key, member: one.position })}>
        <span class="row-reward">
          {one.reward === null ? "–" : plain(one.reward)}
          <small>{one.rank === null ? (one.error ?? "no reward") : `${one.rank} of ${one.size}`}</small>
        </span>
        <span class="row-main">
          <b dir="auto">{`${one.group_id} · ${one.id}`}</b>
          <small>{where}{one.tokens === null ? "" : `, ${one.tokens} tokens`}</small>
          <span class="row-text" dir="auto">{one.excerpt ?? ""}</span>
        </span>
        <span class="row-why">{whyOf(one)}</span>
        <span class="row-flags"><Flags flags={one.flags} /></span>
      </a>
    </div>
  );
}

function whyOf(one: Trajectory): string {
  if (one.twin) return `${(100 * one.twin.similarity).toFixed(0)} % the same as ${one.twin.group_id} · ${one.twin.id}`;
  if (one.lead) return `${words(one.lead.component)} ${signed(one.lead.amount)} over its group`;
  return "";
}
