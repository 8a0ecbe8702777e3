// Asks for the API key. The page itself holds nothing; everything it shows needs the key.

import { useState } from "preact/hooks";
import { key, unlock } from "../state/session";

export function KeyPage() {
  const [given, setGiven] = useState("");
  const [remember, setRemember] = useState(false);
  const refused = key.value !== "";
  return (
    <main class="key-page">
      <form
        class="card"
        onSubmit={(event) => {
          event.preventDefault();
          if (given.trim() !== "") unlock(given.trim(), remember);
        }}
      >
        <h1>This service asks for a key</h1>
        <p>It is one of those in the service's <code>--api-key-file</code>. It is sent to this service only.</p>
        {refused && <p class="problem" role="alert">The key was refused.</p>}
        <label>
          API key
          <input type="password" autocomplete="off" autofocus value={given} onInput={(event) => setGiven(event.currentTarget.value)} />
        </label>
        <label class="check">
          <input type="checkbox" checked={remember} onChange={(event) => setRemember(event.currentTarget.checked)} />
          Keep it in this browser, for its other tabs, too
        </label>
        <button type="submit" class="primary">Open</button>
      </form>
    </main>
  );
}
