// What two texts share and what each has alone, word by word, or line by line where words would take too long.

import { diffLines, diffWordsWithSpace } from "diff";

export interface Piece {
  text: string;
  where: "both" | "left" | "right";
}

const PATIENCE_MS = 800;

export function compare(left: string, right: string): Piece[] {
  const changes = diffWordsWithSpace(left, right, { timeout: PATIENCE_MS }) ?? diffLines(left, right);
  return changes.map((one) => ({ text: one.value, where: one.added ? "right" : one.removed ? "left" : "both" }));
}

/** Share of the longer text that both have. */
export function alike(pieces: readonly Piece[]): number {
  const length = (where: Piece["where"]) =>
    pieces.filter((one) => one.where === where).reduce((sum, one) => sum + one.text.length, 0);
  const both = length("both");
  const longer = both + Math.max(length("left"), length("right"));
  return longer === 0 ? 1 : both / longer;
}
