// A kept group as the service can be asked about it again. Knows the wire's names; asks nothing itself.

import type { GroupDetail } from "../api/types";

export interface Choice {
  reward: string;
  preset: string;
  config: Record<string, unknown>;
}

/** What this page's own questions are called, so that they join no training run. */
export const ASK_AGAIN = "ask-again";

export function choiceOf(detail: GroupDetail): Choice {
  return { reward: detail.reward, preset: detail.preset, config: detail.config };
}

/** The group as `POST /reward` and `opera-reward score` take it, or null where its texts were not kept. */
export function groupOf(detail: GroupDetail): Record<string, unknown> | null {
  const prompt = given({ prompt: detail.prompt, prompt_token_ids: detail.prompt_token_ids });
  const [only, ...others] = detail.references ?? [];
  const reference = given({
    reference: others.length > 0 ? detail.references : (only ?? null),
    reference_token_ids: detail.reference_token_ids,
  });
  const trajectories = detail.members.map((one) =>
    given({ id: one.id, response: one.response, response_token_ids: one.response_token_ids }),
  );
  const whole = [prompt, reference].every((one) => Object.keys(one).length > 0);
  if (!whole || trajectories.some((one) => Object.keys(one).length < 2)) return null;
  return { group_id: detail.group_id, task: detail.task, ...prompt, ...reference, trajectories };
}

export function requestOf(detail: GroupDetail, choice: Choice, level: "segments" | "tokens"): Record<string, unknown> | null {
  const group = groupOf(detail);
  return group && { ...choice, detail: level, run_id: ASK_AGAIN, groups: [group] };
}

function given(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null && value !== undefined));
}
