// Answers of the service as a component sees them: the last one stays until the next is there.

import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, get, post, queryString } from "../api/client";
import { news } from "../api/events";
import { locked } from "./session";

export interface Asked<T> {
  data: T | null;
  error: string | null;
}

/** Asks `path` when it or `query` changes and, with `live`, whenever there is news. */
export function useAnswer<T>(path: string | null, query: object = {}, { live = true } = {}): Asked<T> {
  const [asked, setAsked] = useState<Asked<T> & { for: string | null }>({ data: null, error: null, for: null });
  const wanted = path === null ? null : path + queryString(query);
  const version = live ? news.value : 0;
  const last = useRef(0);
  useEffect(() => {
    if (path === null) return;
    const stop = new AbortController();
    // Bursts of news become one question every 400 ms.
    const wait = asked.for === wanted ? Math.max(0, last.current + 400 - Date.now()) : 0;
    const timer = setTimeout(() => {
      last.current = Date.now();
      get<T>(path, query, stop.signal).then(
        (data) => setAsked({ data, error: null, for: wanted }),
        (error: unknown) => {
          if (!stop.signal.aborted) setAsked((old) => ({ ...old, error: explain(error), for: wanted }));
        },
      );
    }, wait);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [wanted, version]);
  return asked.for === wanted ? asked : { data: null, error: null };
}

export interface Posted<T> {
  answer: T | null;
  problem: string | null;
  asking: boolean;
  ask: (body: object) => void;
  refuse: (problem: string) => void;
}

/** Posts to `path` when somebody asks; the last answer stays until the next is there. */
export function usePosted<T>(path: string): Posted<T> {
  const [answer, setAnswer] = useState<T | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const [asking, setAsking] = useState(false);
  const ask = (body: object) => {
    setAsking(true);
    setProblem(null);
    post<T>(path, body)
      .then(setAnswer, (error: unknown) => setProblem(explain(error)))
      .finally(() => setAsking(false));
  };
  return { answer, problem, asking, ask, refuse: setProblem };
}

/** Says in words what went wrong, and asks for a key where that is it. */
export function explain(error: unknown): string {
  if (error instanceof ApiError) {
    if (error.status === 401) locked.value = true;
    return error.message;
  }
  return error instanceof Error ? error.message : String(error);
}
