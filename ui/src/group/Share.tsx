// Takes groups elsewhere: the clipboard, or a file.

import { useState } from "preact/hooks";
import { address } from "../api/client";
import type { GroupDetail } from "../api/types";
import { key } from "../state/session";
import { explain } from "../state/query";
import { copyText, download } from "./clipboard";
import { asCurl, asJsonl, asOtlp, asPython, asTrackio } from "./copy";
import { groupOf } from "./request";

interface Props {
  details: () => Promise<GroupDetail[]>;
  /** Where one group is shown, it can also be copied as a request. */
  one?: GroupDetail;
}

export function Share({ details, one }: Props) {
  const [said, setSaid] = useState("");
  const tell = (work: Promise<unknown>, done: string) => {
    setSaid("…");
    work.then(
      () => setSaid(done),
      (error: unknown) => setSaid(explain(error)),
    );
  };
  const copy = (text: string) => tell(copyText(text), "copied");
  const save = (name: string, write: (groups: GroupDetail[]) => string) =>
    tell(details().then((groups) => download(name, write(groups))), "saved");
  if (one && groupOf(one) === null) return null;
  const [url, withKey] = [address(""), key.value !== ""];
  return (
    <details class="menu">
      <summary>{one ? "Copy or export" : "Export"}</summary>
      <div class="menu-items">
        {one && (
          <>
            <button type="button" onClick={() => copy(location.href)}>Copy link</button>
            <button type="button" onClick={() => copy(asCurl(one, url, withKey))}>Copy as curl</button>
            <button type="button" onClick={() => copy(asPython(one, url, withKey))}>Copy as Python</button>
            <button type="button" onClick={() => copy(asJsonl([one]))}>Copy as JSONL</button>
          </>
        )}
        <button type="button" onClick={() => save("groups.jsonl", asJsonl)}>Save JSONL (opera-reward score)</button>
        <button type="button" onClick={() => save("traces.trackio.jsonl", asTrackio)}>Save traces for Trackio</button>
        <button type="button" onClick={() => save("traces.otlp.json", asOtlp)}>Save OpenTelemetry traces (Weave)</button>
        <span role="status">{said}</span>
      </div>
    </details>
  );
}
