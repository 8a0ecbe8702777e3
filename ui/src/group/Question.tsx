// What was asked and what the good answer is.

import type { ShownGroup, Message } from "../api/types";
import { many } from "../format";

export function Question({ detail }: { detail: ShownGroup }) {
  return (
    <section class="question">
      <details class="card" open>
        <summary><h2>Prompt</h2></summary>
        <Prompt prompt={detail.prompt} ids={detail.prompt_token_ids} />
      </details>
      <details class="card" open>
        <summary><h2>Reference</h2> {detail.reference_tokens !== null && <small>{many(detail.reference_tokens, "token")} priced</small>}</summary>
        {detail.references === null ? (
          detail.reference_token_ids === null && hasPrompt(detail) ? <p class="absent">No reference was given.</p> : <Absent ids={detail.reference_token_ids} />
        ) : (
          detail.references.map((text, place) => <p key={place} class="text" dir="auto">{text}</p>)
        )}
      </details>
    </section>
  );
}

/** Whoever keeps a prompt keeps a reference, too, where there is one. */
function hasPrompt(detail: ShownGroup): boolean {
  return detail.prompt !== null || detail.prompt_token_ids !== null;
}

function Prompt({ prompt, ids }: { prompt: string | Message[] | null; ids: number[] | null }) {
  if (prompt === null) return <Absent ids={ids} />;
  if (typeof prompt === "string") return <p class="text" dir="auto">{prompt}</p>;
  return (
    <>
      {prompt.map((message, place) => (
        <div key={place} class="message">
          {(prompt.length > 1 || message.role !== "user") && <small class="role">{message.role}</small>}
          <p class="text" dir="auto">{message.content}</p>
        </div>
      ))}
    </>
  );
}

/** Where there is no text: it came as ids, or it is not kept. */
export function Absent({ ids }: { ids: number[] | null }) {
  return <p class="absent">{ids === null ? "This text was not kept." : `Given as ${many(ids.length, "token id")}.`}</p>;
}
