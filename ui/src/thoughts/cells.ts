// Tokens as they can be drawn: a character that several tokens spell together is one cell.

export interface Cell {
  text: string;
  /** The tokens of the cell: [from, to). */
  from: number;
  to: number;
}

/** What the service writes for a token that is only a part of a character. */
const PART = /^bytes:((?:\\x[0-9a-f]{2})+)$/;

export function cellsOf(tokens: readonly string[]): Cell[] {
  const cells: Cell[] = [];
  let waiting: number[] = [];
  let from = 0;
  const close = (to: number, text: string) => {
    cells.push({ text, from, to });
    waiting = [];
  };
  for (const [at, token] of tokens.entries()) {
    const part = PART.exec(token)?.[1];
    if (part === undefined) {
      if (waiting.length > 0) close(at, loosely(waiting));
      from = at;
      close(at + 1, token);
      continue;
    }
    if (waiting.length === 0) from = at;
    waiting.push(...part.split("\\x").slice(1).map((byte) => parseInt(byte, 16)));
    const text = strictly(waiting);
    if (text !== null) close(at + 1, text);
  }
  if (waiting.length > 0) close(tokens.length, loosely(waiting));
  return cells;
}

/** A cell as it is drawn: line ends can be seen, and a run of them breaks the line once. */
export function visible(text: string): string {
  return text.replace(/\n+/g, (run) => `${"↵".repeat(run.length)}\n`);
}

/** One number a cell, the sum over its tokens: the log-prob of a character is that of all that spell it. */
export function overCells(cells: readonly Cell[], values: readonly (number | null)[]): (number | null)[] {
  return cells.map(({ from, to }) => {
    const inside = values.slice(from, to);
    return inside.some((value) => value === null) ? null : inside.reduce<number>((sum, value) => sum + (value ?? 0), 0);
  });
}

function strictly(bytes: readonly number[]): string | null {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(new Uint8Array(bytes));
  } catch {
    return null;
  }
}

function loosely(bytes: readonly number[]): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(new Uint8Array(bytes));
}
