import type { Member } from "../api/types";

/** Which member a panel is about. */
export function MemberChoice({ members, chosen, onChoose }: { members: readonly Member[]; chosen: number; onChoose: (member: number) => void }) {
  return (
    <label>
      Member{" "}
      <select value={chosen} onChange={(event) => onChoose(Number(event.currentTarget.value))}>
        {members.map((one, place) => <option key={place} value={place}>{one.id}</option>)}
      </select>
    </label>
  );
}
