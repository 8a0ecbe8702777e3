// Numbers and times as people read them.

const MINUS = "−";

export function signed(value: number, digits = 3): string {
  const text = Math.abs(value).toFixed(digits);
  return (value < 0 && Number(text) !== 0 ? MINUS : "+") + text;
}

export function plain(value: number, digits = 3): string {
  const text = Math.abs(value).toFixed(digits);
  return (value < 0 && Number(text) !== 0 ? MINUS : "") + text;
}

/** A number or, where there is none, a dash. */
export function shown(value: number | null | undefined, digits = 3): string {
  return value === null || value === undefined ? "–" : plain(value, digits);
}

export function percent(value: number | null): string {
  if (value === null) return "–";
  const percents = 100 * value;
  return `${percents > 0 && percents < 9.95 ? percents.toFixed(1).replace(/\.0$/, "") : percents.toFixed(0)} %`;
}

export function perplexity(logprob: number): string {
  const value = Math.exp(-logprob);
  return value < 1000 ? value.toPrecision(3) : value.toExponential(1);
}

export function count(value: number): string {
  return value.toLocaleString("en-US");
}

export function many(value: number, one: string, more = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : more}`;
}

export function megabytes(bytes: number): string {
  const value = bytes / 2 ** 20;
  return `${value < 10 ? value.toFixed(1) : value.toFixed(0)} MB`;
}

/** How long ago, from unix seconds. */
export function ago(time: number, now = Date.now() / 1000): string {
  const seconds = Math.max(0, now - time);
  if (seconds < 5) return "now";
  if (seconds < 90) return `${Math.round(seconds)} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 129_600) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86_400)} days ago`;
}

/** A name of the wire as words: `format_gate` is "format gate". */
export function words(name: string): string {
  return name.replaceAll("_", " ");
}
