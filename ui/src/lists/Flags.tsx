import { words } from "../format";

export function Flags({ flags }: { flags: readonly string[] }) {
  return (
    <>
      {flags.map((flag) => (
        <span key={flag} class="tag flag">{words(flag)}</span>
      ))}
    </>
  );
}
