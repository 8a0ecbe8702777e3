// The same group under another reward, preset or configuration, beside what was paid.

import { useState } from "preact/hooks";
import type { GroupDetail } from "../api/types";
import type { RewardAnswer, RewardsAnswer } from "../api/wire";
import { plain, shown, signed, words } from "../format";
import { useAnswer, usePosted } from "../state/query";
import { ranks } from "./ranks";
import { requestOf } from "./request";

export function AskAgain({ detail }: { detail: GroupDetail }) {
  const rewards = useAnswer<RewardsAnswer>("rewards", {}, { live: false });
  const [reward, setReward] = useState(detail.reward);
  const [preset, setPreset] = useState(detail.preset);
  const [config, setConfig] = useState(Object.keys(detail.config).length > 0 ? JSON.stringify(detail.config, null, 2) : "");
  const { answer, problem, asking, ask, refuse } = usePosted<RewardAnswer>("reward");
  const known = rewards.data?.rewards ?? [];
  const presets = Object.keys(known.find((one) => one.name === reward)?.presets ?? { [preset]: null });
  if (requestOf(detail, { reward, preset, config: {} }, "segments") === null) {
    return <p class="absent">The texts of this group were not kept, so it cannot be scored again.</p>;
  }
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    const overrides = parsed(config);
    const body = overrides && requestOf(detail, { reward, preset, config: overrides }, "segments");
    if (body === null) refuse("The configuration is not a JSON object, such as {\"relative\": {\"temperature\": 4}}.");
    else ask(body);
  };
  return (
    <form class="panel" onSubmit={submit}>
      <p class="controls">
        <label>
          Reward{" "}
          <select value={reward} onChange={(event) => setReward(event.currentTarget.value)}>
            {(known.length > 0 ? known.map((one) => one.name) : [reward]).map((name) => <option key={name}>{name}</option>)}
          </select>
        </label>
        <label>
          Preset{" "}
          <select value={preset} onChange={(event) => setPreset(event.currentTarget.value)}>
            {presets.map((name) => <option key={name}>{name}</option>)}
          </select>
        </label>
        <label class="wide">
          Single fields, as JSON{" "}
          <textarea rows={config.includes("\n") ? 5 : 1} spellcheck={false} placeholder="{}" value={config} onInput={(event) => setConfig(event.currentTarget.value)} />
        </label>
        <button type="submit" class="primary" disabled={asking}>{asking ? "Asking…" : "Score again"}</button>
      </p>
      {problem !== null && <p class="problem" role="alert">{problem}</p>}
      {answer && <Beside detail={detail} answer={answer} />}
    </form>
  );
}

function Beside({ detail, answer }: { detail: GroupDetail; answer: RewardAnswer }) {
  const now = answer.groups[0]?.trajectories ?? [];
  const names = [...new Set(now.flatMap((one) => Object.keys(one.components ?? {})))];
  const ranksThen = ranks(detail.members.map((one) => one.reward));
  const ranksNow = ranks(now.map((one) => one.reward));
  return (
    <>
      {answer.model.weight_version !== detail.weight_version && (
        <p class="note">Scored by weights {answer.model.weight_version}; the reward was given by {detail.weight_version}.</p>
      )}
      <div class="scroll" tabIndex={0} role="region" aria-label="Rewards then and now">
        <table class="beside">
          <thead>
            <tr><th>member</th><th>paid</th><th>now</th><th>change</th><th>rank</th>{names.map((name) => <th key={name}>{words(name)}</th>)}</tr>
          </thead>
          <tbody>
            {now.map((one, place) => {
              const then = detail.members[place]?.reward ?? null;
              const change = then === null || one.reward === null ? null : one.reward - then;
              return (
                <tr key={place}>
                  <th scope="row" dir="auto">{one.id}</th>
                  <td>{shown(then)}</td>
                  <td><b>{one.reward === null ? (one.error?.code ?? "–") : plain(one.reward)}</b></td>
                  <td class={change === null || change === 0 ? "" : change > 0 ? "good" : "bad"}>{change === null ? "–" : signed(change)}</td>
                  <td>{ranksThen[place] ?? "–"} → {ranksNow[place] ?? "–"}</td>
                  {names.map((name) => <td key={name}>{shown(one.components?.[name])}</td>)}
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </>
  );
}

function parsed(text: string): Record<string, unknown> | null {
  if (text.trim() === "") return {};
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}
