// What the service says by itself: server-sent events, read with `fetch` because EventSource cannot send a key.

import { signal } from "@preact/signals";
import { address, authorised } from "./client";
import { locked } from "../state/session";
import type { Changed } from "./types";

/** `live`: news comes within a second. `waiting`: the connection is being made again. */
export const connection = signal<"live" | "waiting">("waiting");
/** Rises whenever what is shown may be out of date. */
export const news = signal(0);
/** Whether the service was started again while this page was open. */
export const restarted = signal(false);

const FIRST_PAUSE_MS = 300;
const LONGEST_PAUSE_MS = 5_000;
/** The service says something every 10 seconds; a line that is silent for longer is dead. */
const SILENCE_MS = 25_000;

/** Listens until `stop` says so, and for ever after a loss. */
export async function listen(stop: AbortSignal): Promise<void> {
  let pause = FIRST_PAUSE_MS;
  let boot: string | null = null;
  while (!stop.aborted) {
    const heard = await once(stop, (changed) => {
      pause = FIRST_PAUSE_MS;
      if (boot !== null && boot !== changed.boot) restarted.value = true;
      boot = changed.boot;
      connection.value = "live";
      news.value += 1;
    });
    connection.value = "waiting";
    if (heard === "locked") return;
    await sleep(pause, stop);
    pause = Math.min(LONGEST_PAUSE_MS, pause * 1.7);
  }
}

async function once(stop: AbortSignal, onChange: (changed: Changed) => void): Promise<"lost" | "locked"> {
  const line = new AbortController();
  const abort = () => line.abort();
  stop.addEventListener("abort", abort);
  let watchdog = setTimeout(abort, SILENCE_MS);
  try {
    const response = await fetch(address("ui/events"), {
      headers: authorised({ Accept: "text/event-stream" }),
      signal: line.signal,
      cache: "no-store",
      credentials: "omit",
    });
    if (response.status === 401) {
      locked.value = true;
      return "locked";
    }
    if (!response.ok || !response.body) return "lost";
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const parser = new EventParser();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return "lost";
      clearTimeout(watchdog);
      watchdog = setTimeout(abort, SILENCE_MS);
      for (const data of parser.push(value)) onChange(JSON.parse(data) as Changed);
    }
  } catch {
    return "lost";
  } finally {
    clearTimeout(watchdog);
    stop.removeEventListener("abort", abort);
  }
}

/** Cuts a stream of text into the data of its events; comments keep a line alive and say nothing. */
export class EventParser {
  private rest = "";

  push(text: string): string[] {
    const blocks = (this.rest + text).split(/\r?\n\r?\n/);
    this.rest = blocks.pop() ?? "";
    return blocks.map(dataOf).filter((data) => data !== "");
  }
}

function dataOf(block: string): string {
  const lines = block.split(/\r?\n/).filter((line) => line.startsWith("data:"));
  return lines.map((line) => line.slice(5).trimStart()).join("\n");
}

function sleep(milliseconds: number, stop: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    stop.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
