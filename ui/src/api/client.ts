// Asks the service, with the key of this browser. A refusal is an `ApiError` that says what to do.

import { key } from "../state/session";

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** The service's address below which everything lies; this page is `ui/` there. */
export function address(path: string): string {
  return new URL(`../${path}`, document.baseURI.replace(/[#?].*$/, "")).href;
}

export function authorised(headers: Record<string, string> = {}): Record<string, string> {
  return key.value ? { ...headers, Authorization: `Bearer ${key.value}` } : headers;
}

export async function get<T>(path: string, query: object = {}, signal?: AbortSignal): Promise<T> {
  return await answer<T>(`${path}${queryString(query)}`, { headers: authorised(), ...(signal ? { signal } : {}) });
}

export async function post<T>(path: string, body: unknown, signal?: AbortSignal): Promise<T> {
  const headers = authorised({ "Content-Type": "application/json" });
  return await answer<T>(path, { method: "POST", headers, body: JSON.stringify(body), ...(signal ? { signal } : {}) });
}

export function queryString(query: object): string {
  const parts = new URLSearchParams();
  for (const [name, value] of Object.entries(query) as [string, string | number | boolean | null | undefined][]) {
    if (value !== undefined && value !== null && value !== "") parts.set(name, String(value));
  }
  const text = parts.toString();
  return text ? `?${text}` : "";
}

async function answer<T>(path: string, init: RequestInit): Promise<T> {
  let response: Response;
  try {
    response = await fetch(address(path), { ...init, cache: "no-store", credentials: "omit" });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", "The service does not answer. It may be restarting.");
  }
  const body: unknown = await response.json().catch(() => null);
  if (response.ok) return body as T;
  const said = (body as { error?: { code?: string; message?: string; field?: string | null } } | null)?.error;
  const where = said?.field ? `${said.field}: ` : "";
  const message = said?.message ? where + said.message : `the service answered ${response.status}`;
  throw new ApiError(response.status, said?.code ?? "unknown", message);
}
