// Two members of a group, word by word.

import { useMemo, useState } from "preact/hooks";
import type { Member } from "../api/types";
import { plain } from "../format";
import { alike, compare } from "./diff";

export function DiffPanel({ members }: { members: Member[] }) {
  const kept = members.filter((one) => one.response !== null);
  const [left, setLeft] = useState(0);
  const [right, setRight] = useState(1);
  const [a, b] = [kept[left], kept[right]];
  const pieces = useMemo(() => compare(a?.response ?? "", b?.response ?? ""), [a, b]);
  if (kept.length < 2) return <p class="absent">A comparison needs two members with their texts.</p>;
  return (
    <div class="panel">
      <p class="controls">
        <Choice label="Left" members={kept} value={left} onChange={setLeft} />
        <Choice label="Right" members={kept} value={right} onChange={setRight} />
        <span>{(100 * alike(pieces)).toFixed(0)} % alike</span>
        <span class="legend"><del>left only</del> <ins>right only</ins></span>
      </p>
      <p class="text diff" dir="auto">
        {pieces.map((piece, at) =>
          piece.where === "both" ? <span key={at}>{piece.text}</span> : piece.where === "left" ? <del key={at}>{piece.text}</del> : <ins key={at}>{piece.text}</ins>,
        )}
      </p>
    </div>
  );
}

function Choice({ label, members, value, onChange }: { label: string; members: Member[]; value: number; onChange: (place: number) => void }) {
  return (
    <label>
      {label}{" "}
      <select value={value} onChange={(event) => onChange(Number(event.currentTarget.value))}>
        {members.map((one, place) => (
          <option key={place} value={place}>{one.id}{one.reward === null ? "" : ` (${plain(one.reward)})`}</option>
        ))}
      </select>
    </label>
  );
}
