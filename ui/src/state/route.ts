// Where the page is, as its address says: every view can be linked to.

import { signal } from "@preact/signals";
import { queryString } from "../api/client";
import type { Filter, Question } from "../api/types";

export type Route =
  | { page: "runs"; run?: string; with?: string }
  | { page: "step"; run: string; step: number; filter: Filter }
  | { page: "group"; key: number; member?: number; thought?: number; panel?: Panel }
  | { page: "questions"; filter: Filter };

/** What is open on a group's page. */
export type Panel = "reference" | "answer" | "differences" | "again";
const PANELS: readonly string[] = ["reference", "answer", "differences", "again"] satisfies Panel[];

export const route = signal<Route>({ page: "runs" });

export function follow(): () => void {
  const read = () => (route.value = parse(location.hash));
  read();
  addEventListener("hashchange", read);
  return () => removeEventListener("hashchange", read);
}

export function go(to: Route, how: "push" | "replace" = "push"): void {
  const hash = href(to);
  if (how === "push") location.hash = hash;
  else {
    history.replaceState(null, "", hash);
    route.value = to;
  }
}

export function href(to: Route): string {
  switch (to.page) {
    case "runs":
      return to.run === undefined ? "#/" : `#/run/${encodeURIComponent(to.run)}${queryString({ with: to.with })}`;
    case "step":
      return `#/run/${encodeURIComponent(to.run)}/${to.step}${queryString(to.filter)}`;
    case "group":
      return `#/group/${to.key}${queryString({ member: to.member, thought: to.thought, panel: to.panel })}`;
    case "questions":
      return `#/questions${queryString(to.filter)}`;
  }
}

/** Reads an address; one that says nothing known leads to the start. */
export function parse(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const asked = new URLSearchParams(query);
  const parts = path.split("/").map(decoded);
  const [first, second, third] = parts;
  if (first === "run" && second !== undefined && third !== undefined && integer(third) !== undefined) {
    return { page: "step", run: second, step: Number(third), filter: filterOf(asked) };
  }
  if (first === "run" && second !== undefined) {
    const other = asked.get("with");
    return { page: "runs", run: second, ...(other === null ? {} : { with: other }) };
  }
  if (first === "group" && second !== undefined && integer(second) !== undefined) {
    const member = integer(asked.get("member"));
    const thought = integer(asked.get("thought"));
    const panel = asked.get("panel");
    return {
      page: "group",
      key: Number(second),
      ...(member === undefined ? {} : { member }),
      ...(thought === undefined ? {} : { thought }),
      ...(panel !== null && PANELS.includes(panel) ? { panel: panel as Panel } : {}),
    };
  }
  if (first === "questions") return { page: "questions", filter: filterOf(asked) };
  return { page: "runs" };
}

const QUESTIONS: readonly string[] = ["earns_most", "equal", "longer_is_better", "duplicates"] satisfies Question[];

function filterOf(asked: URLSearchParams): Filter {
  const filter: Filter = {};
  for (const name of ["run", "flag", "text", "sort"] as const) {
    const value = asked.get(name);
    if (value) filter[name] = value;
  }
  for (const name of ["first_step", "last_step", "reward_min", "reward_max"] as const) {
    const value = number(asked.get(name));
    if (value !== undefined) filter[name] = value;
  }
  const question = asked.get("question");
  if (question !== null && QUESTIONS.includes(question)) filter.question = question as Question;
  const descending = asked.get("descending");
  if (descending !== null) filter.descending = descending === "true";
  return filter;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function number(text: string | null): number | undefined {
  if (text === null || text.trim() === "") return undefined;
  const value = Number(text);
  return Number.isFinite(value) ? value : undefined;
}

function integer(text: string | null): number | undefined {
  const value = number(text);
  return value !== undefined && Number.isInteger(value) && value >= 0 ? value : undefined;
}
