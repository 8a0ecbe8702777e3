// What of all trajectories is looked at, and in which order.

import { useEffect, useState } from "preact/hooks";
import type { Filter } from "../api/types";
import { words } from "../format";
import { without } from "../state/filter";

interface Props {
  runs: string[];
  filter: Filter;
  components: string[];
  texts: boolean;
  /** Told how to change the filter as it is by then: fields are typed in faster than pages are drawn. */
  onChange: (change: (filter: Filter) => Filter) => void;
}

type Field = "run" | "text" | "sort" | "first_step" | "last_step" | "reward_min" | "reward_max";

export function Filters({ runs, filter, components, texts, onChange }: Props) {
  const set = (name: Field, value: string | number | undefined) => {
    onChange((old) => {
      const rest = without(old, name);
      return value === undefined || value === "" ? rest : { ...rest, [name]: value };
    });
  };
  const number = (name: Field, label: string) => (
    <Typed
      label={label}
      type="number"
      value={filter[name]?.toString() ?? ""}
      onChange={(text) => set(name, text === "" || !Number.isFinite(Number(text)) ? undefined : Number(text))}
    />
  );
  return (
    <form class="filters" onSubmit={(event) => event.preventDefault()}>
      <label>
        <span>Run</span>
        <select value={filter.run ?? ""} onChange={(event) => set("run", event.currentTarget.value)}>
          <option value="">all runs</option>
          {runs.map((run) => <option key={run} value={run}>{run}</option>)}
        </select>
      </label>
      {number("first_step", "From step")}
      {number("last_step", "To step")}
      {number("reward_min", "Least reward")}
      {number("reward_max", "Most reward")}
      <label>
        <span>Sort by</span>
        <select value={filter.sort ?? ""} disabled={filter.question !== undefined} onChange={(event) => set("sort", event.currentTarget.value)}>
          <option value="">newest</option>
          <option value="reward">reward</option>
          <option value="tokens">length</option>
          <option value="level">level</option>
          {components.filter((name) => name !== "level").map((name) => <option key={name} value={`components.${name}`}>{words(name)}</option>)}
        </select>
      </label>
      <label class="check">
        <input
          type="checkbox"
          checked={filter.descending === false}
          disabled={filter.question !== undefined}
          onChange={(event) => {
            const least = event.currentTarget.checked;
            onChange((old) => (least ? { ...old, descending: false } : without(old, "descending")));
          }}
        />
        least first
      </label>
      <Typed label={texts ? "Text" : "Text (not kept)"} type="text" wide disabled={!texts} value={filter.text ?? ""} onChange={(text) => set("text", text)} />
    </form>
  );
}

interface TypedProps {
  label: string;
  type: "number" | "text";
  value: string;
  wide?: boolean;
  disabled?: boolean;
  onChange: (text: string) => void;
}

/** A field that asks once its reader pauses. */
function Typed({ label, type, value, wide = false, disabled = false, onChange }: TypedProps) {
  const [text, setText] = useState(value);
  useEffect(() => setText(value), [value]);
  useEffect(() => {
    if (text === value) return;
    const timer = setTimeout(() => onChange(text), 250);
    return () => clearTimeout(timer);
  }, [text]);
  return (
    <label class={wide ? "wide" : ""}>
      <span>{label}</span>
      {type === "number" ? (
        <input type="number" step="any" value={text} disabled={disabled} onInput={(event) => setText(event.currentTarget.value)} />
      ) : (
        <input type="text" value={text} disabled={disabled} onInput={(event) => setText(event.currentTarget.value)} />
      )}
    </label>
  );
}
