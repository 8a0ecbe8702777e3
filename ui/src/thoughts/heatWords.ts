// What a heat map shows, in one sentence: the tokens that stand out, with their numbers.

import { perplexity, plain, signed } from "../format";
import type { Cell } from "./cells";
import type { Mode } from "./heat";

const NAMED = 3;
/** Less than this is no finding, in nats. */
const NOTHING = 0.05;

export function heatWords(cells: readonly Cell[], values: readonly (number | null)[], mode: Mode): string {
  const found = cells.flatMap(({ text }, at) => {
    const value = values[at];
    return value === null || value === undefined ? [] : [{ text, value }];
  });
  if (found.length === 0) return "No token was priced.";
  const by = (order: (a: number, b: number) => number) => [...found].sort((a, b) => order(a.value, b.value));
  const least = by((a, b) => a - b).filter((one) => one.value < -NOTHING);
  const most = by((a, b) => b - a).filter((one) => one.value > NOTHING);
  if (mode === "logprob") {
    return least.length === 0 ? "Every token was as good as certain." : `Least likely: ${named(least, plain)}.`;
  }
  if (mode === "spread") {
    return most.length === 0 ? "The members agree on every token." : `The members differ most on ${named(most, plain)}.`;
  }
  if (least.length + most.length === 0) return "This thought changed no token by much.";
  const up = most.length > 0 ? [`likelier: ${named(most, signed)}`] : [];
  const down = least.length > 0 ? [`less likely: ${named(least, signed)}`] : [];
  return `Now ${[...up, ...down].join("; ")}.`;
}

/** How certain a text is over all of its tokens that were priced. */
export function certainty(logprobs: readonly (number | null)[]): string {
  const priced = logprobs.filter((value) => value !== null);
  if (priced.length === 0) return "no token priced";
  const mean = priced.reduce((sum, value) => sum + value, 0) / priced.length;
  return `${priced.length} ${priced.length === 1 ? "token" : "tokens"}, mean log-prob ${plain(mean)}, perplexity ${perplexity(mean)}`;
}

function named(found: readonly { text: string; value: number }[], show: (value: number, digits: number) => string): string {
  return found.slice(0, NAMED).map((one) => `“${nameOf(one.text)}” ${show(one.value, 2)}`).join(", ");
}

function nameOf(text: string): string {
  return text.trim() !== "" ? text.trim() : text.includes("\n") ? "line end" : "space";
}
