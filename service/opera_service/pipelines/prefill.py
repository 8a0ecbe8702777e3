"""Works ahead for a trajectory that is still being written: prices what a final request will, drops the numbers.

What the engine keeps of it (trunks, prefix cache) is all that stays; so it changes no number.
"""

from __future__ import annotations

from dataclasses import replace

from opera_client.wire import Group, RewardRequest
from opera_service.pipelines.request_context import RequestContext
from opera_service.pipelines.reward_views import encode_for, require_reference
from opera_service.pipelines.runtime import Runtime
from opera_service.rewards.for_group import for_group
from opera_service.rewards.reference_logprobs import ContextQueries
from opera_service.rewards.registry import AnyReward, resolve
from opera_service.scoring.tree import TokenTree, TreeBuilder
from opera_service.trajectories.encoded import EncodedTrajectory
from opera_service.trajectories.group_path import GroupPath

HINTS = "hints"
"""Whose turn it is when hints are worked for: one share for all of them, however many runs they name."""
WITHIN_S = 30.0
"""Work for a hint that has waited longer is of no use any more."""


async def prefill(runtime: Runtime, request: RewardRequest) -> None:
    """Score what is complete of the request's one trajectory, under the same admission as everything else.

    What is refused is not tried again, so no room is kept for it.

    Raises what `score_groups` does; nothing depends on it.
    """
    chosen = resolve(request.reward, request.preset, request.config)
    require_reference(chosen, request.groups[0], "reference")
    runtime.second_for(chosen)
    deadline = runtime.deadline(WITHIN_S)
    with RequestContext(runtime, request, "groups", run_id=HINTS, deadline=deadline, comes_back=False) as context:
        tree = await context.encode(_planned, runtime, chosen, request)
        if tree is not None:
            await context.score([tree])


def _planned(runtime: Runtime, chosen: AnyReward, request: RewardRequest) -> TokenTree | None:
    """Plan the reward of the trajectory up to its last complete paragraph; None where there is none."""
    group = request.groups[0]
    path = GroupPath(0)
    encoded = encode_for(chosen, group, 0, runtime.field_tokenizer, path).group
    if encoded is None:
        return None
    complete = _cut(group, encoded.trajectories[0])
    if complete is None:
        return None
    if complete is not group:
        encoded = encode_for(chosen, complete, 0, runtime.field_tokenizer, path).group
        if encoded is None:
            return None
    encoded = encoded.everywhere(explained=request.detail != "reward")
    builder = TreeBuilder()
    for_group(chosen, encoded).plan(encoded, builder)
    if len(encoded.reference_ids):  # at least the trunk, also where the reward prices no boundary
        ContextQueries(encoded, builder).after(encoded.trajectories[0].contexts[-1])
    # A second model keeps nothing from one call to the next, so there is nothing to work ahead for.
    return replace(builder.build(), second=None) if builder.num_tokens else None


def _cut(group: Group, trajectory: EncodedTrajectory) -> Group | None:
    """Return the group without what may still change: an unfinished last paragraph, an unfinished answer.

    None where nothing is complete.
    """
    sent = group.trajectories[0]
    if sent.response_token_ids is None:
        return group  # turns are complete
    paragraphs = [segment for segment in trajectory.segments if not segment.between]
    if "think_unclosed" in trajectory.flags:
        paragraphs = paragraphs[:-1]
    if not paragraphs:
        return group if sent.has_turns else None
    end = paragraphs[-1].end
    mask = None if sent.response_mask is None else sent.response_mask[:end]
    shorter = sent.model_copy(update={"response_token_ids": sent.response_token_ids[:end], "response_mask": mask})
    return group.model_copy(update={"trajectories": [shorter]})
