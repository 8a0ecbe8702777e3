// A list of any length that draws only what is seen, and asks the service for pages of it as they come into view.

import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { get, queryString } from "../api/client";
import { news } from "../api/events";
import { explain } from "../state/query";

export const PAGE = 100;
const OVERSCAN = 6;

interface Page<Row> {
  total: number;
  rows: Row[];
}

interface Props<Row, Answer extends Page<Row>> {
  path: string;
  query: object;
  rowHeight: number;
  label: string;
  render: (row: Row, index: number) => ComponentChildren;
  /** Told about the first page: totals, histogram, facets. */
  onAnswer?: (answer: Answer) => void;
  empty: string;
}

export function VirtualList<Row, Answer extends Page<Row>>(props: Props<Row, Answer>) {
  const { path, query, rowHeight, label, render, empty } = props;
  const wanted = path + queryString(query);
  const box = useRef<HTMLDivElement>(null);
  const [seen, setSeen] = useState({ top: 0, height: 600 });
  const { pages, total, error, stale, refresh } = usePages<Answer>(wanted, path, query, seen, rowHeight, props.onAnswer);

  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return;
    element.scrollTop = 0;
    const measure = () => setSeen({ top: element.scrollTop, height: element.clientHeight });
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, [wanted]);

  const first = Math.max(0, Math.floor(seen.top / rowHeight) - OVERSCAN);
  const last = Math.min(total ?? 0, Math.ceil((seen.top + seen.height) / rowHeight) + OVERSCAN);
  const rows: ComponentChildren[] = [];
  for (let index = first; index < last; index += 1) {
    const row = pages.get(Math.floor(index / PAGE))?.[index % PAGE];
    rows.push(
      <div key={index} role="listitem" class="row-slot" aria-posinset={index + 1} aria-setsize={total ?? -1} style={{ top: `${index * rowHeight}px`, height: `${rowHeight}px` }}>
        {row === undefined ? <span class="row-waiting" /> : render(row, index)}
      </div>,
    );
  }
  return (
    <div class="list-frame">
      {error !== null && <p class="problem" role="alert">{error}</p>}
      {stale && (
        <button type="button" class="newer" onClick={() => { refresh(); box.current?.scrollTo({ top: 0 }); }}>
          There are newer ones: show them
        </button>
      )}
      <div
        ref={box}
        class="list"
        tabIndex={0}
        role="region"
        aria-label={label}
        onScroll={(event) => setSeen({ top: event.currentTarget.scrollTop, height: event.currentTarget.clientHeight })}
      >
        {total === 0 ? <p class="empty">{empty}</p> : <div class="rows" role="list" style={{ height: `${(total ?? 0) * rowHeight}px` }}>{rows}</div>}
      </div>
    </div>
  );
}

/** Pages by number, fetched when a row of theirs is seen. News refreshes the top; further down it waits to be asked. */
function usePages<Answer extends Page<unknown>>(
  wanted: string,
  path: string,
  query: object,
  seen: { top: number; height: number },
  rowHeight: number,
  onAnswer?: (answer: Answer) => void,
) {
  type Row = Answer["rows"][number];
  const [state, setState] = useState<{ pages: Map<number, Row[]>; total: number | null; error: string | null }>({
    pages: new Map(),
    total: null,
    error: null,
  });
  const asked = useRef(new Set<number>());
  const generation = useRef(0);
  const stop = useRef(new AbortController());
  const [stale, setStale] = useState(false);

  const fetchPage = (number: number, replace = false) => {
    if (asked.current.has(number)) return;
    asked.current.add(number);
    const mine = generation.current;
    get<Answer>(path, { ...query, offset: number * PAGE, limit: PAGE }, stop.current.signal).then(
      (answer) => {
        if (mine !== generation.current) return;
        setState((old) => ({
          pages: new Map([...(replace ? [] : old.pages), [number, answer.rows]]),
          total: answer.total,
          error: null,
        }));
        if (number === 0) onAnswer?.(answer);
      },
      (error: unknown) => {
        if (mine !== generation.current) return;
        asked.current.delete(number);
        setState((old) => ({ ...old, error: explain(error) }));
      },
    );
  };
  const restart = (keep: boolean) => {
    generation.current += 1;
    stop.current.abort();
    stop.current = new AbortController();
    asked.current = new Set();
    setStale(false);
    if (!keep) setState({ pages: new Map(), total: null, error: null });
    fetchPage(0, true);
  };

  useEffect(() => {
    restart(false);
    return () => stop.current.abort();
  }, [wanted]);
  const version = news.value;
  const shownVersion = useRef(version);
  useEffect(() => {
    if (version === shownVersion.current) return;
    shownVersion.current = version;
    const timer = setTimeout(() => {
      if (seen.top < rowHeight) restart(true);
      else setStale(true);
    }, 300);
    return () => clearTimeout(timer);
  }, [version]);
  useEffect(() => {
    if (state.total === null) return;
    const last = Math.min(state.total - 1, Math.ceil((seen.top + seen.height) / rowHeight) + OVERSCAN);
    for (let page = Math.floor(seen.top / rowHeight / PAGE); page * PAGE <= last; page += 1) fetchPage(page);
  }, [seen.top, seen.height, state.total, state.pages]);
  return { ...state, stale, refresh: () => restart(true) };
}
