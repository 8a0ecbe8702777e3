// A kept group as the service can be asked about it again. Knows the wire's names; asks nothing itself.

import type { GroupDetail, Member } from "../api/types";

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
    one.turns ? { id: one.id, turns: one.turns } : given({ id: one.id, ...responseOf(one) }),
  );
  // A reference is kept wherever a prompt is; some rewards need none.
  if (Object.keys(prompt).length === 0 || trajectories.some((one) => Object.keys(one).length < 2)) return null;
  return { group_id: detail.group_id, task: detail.task, ...prompt, ...reference, trajectories };
}

export function requestOf(detail: GroupDetail, choice: Choice, level: "segments" | "tokens"): Record<string, unknown> | null {
  const group = groupOf(detail);
  return group && { ...choice, detail: level, run_id: ASK_AGAIN, groups: [group] };
}

/**
 * The members' responses as `POST /score` prices their tokens, each after the prompt; by place in the group. Turns
 * have no item. Null where the texts were not kept.
 */
export function answersRequestOf(detail: GroupDetail): { places: number[]; body: Record<string, unknown> } | null {
  if (groupOf(detail) === null) return null;
  const context = given({ context: detail.prompt, context_token_ids: detail.prompt_token_ids });
  const places = detail.members.flatMap((one, place) => (one.turns ? [] : [place]));
  const items = detail.members.flatMap((one) =>
    one.turns ? [] : [given({ ...context, target: one.response, target_token_ids: one.response_token_ids, target_mask: one.response_mask })],
  );
  return { places, body: { detail: "tokens", run_id: ASK_AGAIN, items } };
}

function responseOf(one: Member): Record<string, unknown> {
  return { response: one.response, response_token_ids: one.response_token_ids, response_mask: one.response_mask };
}

function given(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null && value !== undefined));
}
