// Whether what is shown is all there is: green only if it is.

import type { RunSummary } from "../api/types";
import { count } from "../format";

export function Completeness({ of }: { of: RunSummary }) {
  const { whole, partial, failed, missing, dropped, missing_steps: gaps } = of.completeness;
  const complete = partial + failed + missing + dropped + gaps.length === 0;
  const said = [
    `${count(whole)} whole`,
    ...(partial > 0 ? [`${count(partial)} in part`] : []),
    ...(failed > 0 ? [`${count(failed)} failed`] : []),
    ...(missing > 0 ? [`${count(missing)} refused`] : []),
    ...(dropped > 0 ? [`${count(dropped)} older ones no longer kept`] : []),
    ...(gaps.length > 0 ? [`no groups of ${gapsOf(gaps)}`] : []),
  ];
  const help = "Groups with every member scored; in part: some members have no reward; failed: none has; refused: their requests were answered with an error, and did not come again.";
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
