// What belongs to this browser: the key, and light or dark.

import { signal } from "@preact/signals";

const KEY = "opera-reward.key";
const THEME = "opera-reward.theme";

export type Theme = "system" | "light" | "dark";

/** The API key that is sent; empty where none is needed. */
export const key = signal(stored(sessionStorage, KEY) ?? stored(localStorage, KEY) ?? "");
/** Whether the service wants a key, or another one. */
export const locked = signal(false);
export const theme = signal<Theme>(themeOf(stored(localStorage, THEME)));

/** Uses `given` from now on: in this tab, or, with `remember`, in all tabs of this browser until it is forgotten. */
export function unlock(given: string, remember: boolean): void {
  forget();
  store(remember ? localStorage : sessionStorage, KEY, given);
  key.value = given;
  locked.value = false;
}

export function forget(): void {
  for (const storage of [sessionStorage, localStorage]) storage.removeItem(KEY);
  key.value = "";
}

export function setTheme(chosen: Theme): void {
  theme.value = chosen;
  store(localStorage, THEME, chosen);
  showTheme();
}

export function showTheme(): void {
  if (theme.value === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme.value;
}

function themeOf(text: string | null): Theme {
  return text === "light" || text === "dark" ? text : "system";
}

function stored(storage: Storage, name: string): string | null {
  try {
    return storage.getItem(name);
  } catch {
    return null;
  }
}

function store(storage: Storage, name: string, value: string): void {
  try {
    storage.setItem(name, value);
  } catch {
    // A browser that keeps nothing asks again in the next tab.
  }
}
