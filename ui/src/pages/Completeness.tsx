// Whether what is shown is all there is: green only if it is.

import type { RunSummary } from "../api/types";
import { count, many } from "../format";

export function Completeness({ of }: { of: RunSummary }) {
  const { whole, partial, failed, refused, missing_steps: gaps } = of.completeness;
  const complete = partial + failed + refused + gaps.length === 0;
  const said = [
    `${count(whole)} whole`,
    ...(partial > 0 ? [`${count(partial)} in part`] : []),
    ...(failed > 0 ? [`${count(failed)} failed`] : []),
    ...(refused > 0 ? [many(refused, "request refused", "requests refused")] : []),
    ...(gaps.length > 0 ? [`no groups of ${gapsOf(gaps)}`] : []),
  ];
  const help = "Groups with every member scored; in part: some members have no reward; failed: none has; refused: requests answered with an error as a whole.";
  return (
    <p class={`badge ${complete ? "complete" : "incomplete"}`} title={help}>
      <b>{complete ? "✓ complete" : "! incomplete"}</b> {said.join(", ")}
    </p>
  );
}

function gapsOf(gaps: readonly [number, number][]): string {
  const named = gaps.slice(0, 3).map(([first, last]) => (first === last ? `step ${first}` : `steps ${first} to ${last}`));
  return named.join(", ") + (gaps.length > 3 ? ` and ${gaps.length - 3} more gaps` : "");
}
