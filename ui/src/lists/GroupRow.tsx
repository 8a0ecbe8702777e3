// One group in a list: what was asked, what was paid, how far the members are apart.

import type { GroupRow as Group } from "../api/types";
import { many, plain } from "../format";
import { href } from "../state/route";
import { Flags } from "./Flags";

export function GroupRow({ group, low, high }: { group: Group; low: number; high: number }) {
  const at = (value: number) => `${(100 * (value - low)) / Math.max(1e-9, high - low)}%`;
  const { mean, lowest, highest } = group;
  return (
    <a class="row group-row" href={href({ page: "group", key: group.key })}>
      <span class="row-main">
        <b dir="auto">{group.group_id}</b>
        <span class="row-text" dir="auto">{group.excerpt ?? ""}</span>
      </span>
      <span class="row-range" aria-hidden="true">
        {lowest !== null && highest !== null && mean !== null && (
          <>
            <i class="whisker" style={{ left: at(lowest), right: `calc(100% - ${at(highest)})` }} />
            <i class="mean" style={{ left: at(mean) }} />
          </>
        )}
      </span>
      <span class="row-number">
        {mean === null ? "no reward" : `${plain(mean)} ± ${plain(group.spread ?? 0)}`}
        <small>{group.scored < group.size ? `${group.scored} of ${group.size} scored` : many(group.size, "member")}</small>
      </span>
      <span class="row-flags">
        {group.equal && <span class="tag">equal</span>}
        <Flags flags={group.flags} />
      </span>
    </a>
  );
}
