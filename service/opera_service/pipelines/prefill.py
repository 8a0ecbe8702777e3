"""Works ahead for a trajectory that is still being written: computes what a final request will ask for.

What the engine keeps of it (trunks, prefix cache) is all that stays; so it changes no number. The reward is
planned twice, as if the trajectory ended here and as if it had ended a little earlier: what both ask for is
complete, and of what differs the common start is computed. So no reward needs to say what of it grows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from opera_client.wire import Group, RewardRequest
from opera_service.engines.base import KEPT_BLOCK
from opera_service.pipelines.request_context import RequestContext
from opera_service.pipelines.reward_views import encode_for, require_reference
from opera_service.pipelines.runtime import Runtime
from opera_service.rewards.for_group import for_group
from opera_service.rewards.registry import AnyReward, resolve
from opera_service.scoring.tree import ROOT, Ids, TokenTree, TreeBuilder, agreement
from opera_service.trajectories.group_path import GroupPath

HINTS = "hints"
"""Whose turn it is when hints are worked for: one share for all of them, however many runs they name."""
EARLIER = 4
"""Tokens. With fewer, what differs by white space only would be taken for complete: some contexts leave it out."""
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
        trees = await context.encode(_planned, runtime, chosen, request)
        if trees:
            await context.score(trees)


class _Query(NamedTuple):
    """One that the reward would ask, or a context that it will go on from."""

    ids: Ids
    """Context and target."""
    context: int
    """How many of them are context."""
    grows: bool
    priced: bool
    """Whether its numbers are kept for a final request."""

    def shared(self, other: _Query) -> int:
        """Return how many ids both begin with."""
        length = min(len(self.ids), len(other.ids))
        return agreement(self.ids[:length], other.ids[:length])

    def same(self, other: _Query) -> bool:
        """Whether both ask for the same."""
        return self.context == other.context and len(self.ids) == len(other.ids) == self.shared(other)


def _planned(runtime: Runtime, chosen: AnyReward, request: RewardRequest) -> list[TokenTree]:
    """Return what is complete, and the starts of what grows: a tree each, as the latter changes more often."""
    group, explained = request.groups[0], request.detail != "reward"
    now = list(_queries(runtime, chosen, group, explained=explained))
    shorter = _earlier(group)
    before = now if shorter is group else list(_queries(runtime, chosen, shorter, explained=explained))
    targets = runtime.engine.info.route == "kept_trunks"  # elsewhere the numbers of a target are not kept
    complete, growing = TreeBuilder(), TreeBuilder()
    for query in now:
        if query.priced and any(map(query.same, before)):
            cursor = complete.extend(ROOT, query.ids[: query.context])
            complete.score(cursor, query.ids[query.context :], grows=query.grows)
            continue
        stable = max(map(query.shared, before), default=0) // KEPT_BLOCK * KEPT_BLOCK
        if targets and query.priced and query.grows and query.context < stable:
            cursor = growing.extend(ROOT, query.ids[: query.context])
            growing.score(cursor, query.ids[query.context : stable + 1], grows=True)
        elif stable := min(stable, query.context // KEPT_BLOCK * KEPT_BLOCK):
            growing.score(growing.extend(ROOT, query.ids[:stable]), query.ids[stable : stable + 1])
    return [builder.build() for builder in (complete, growing) if builder.num_queries]


def _queries(runtime: Runtime, chosen: AnyReward, group: Group, *, explained: bool) -> Iterator[_Query]:
    """Yield what would be asked of the group's trajectory if it ended here, none where it cannot be read yet.

    A second model keeps nothing from one call to the next, so there is nothing to work ahead for.
    """
    encoded = encode_for(chosen, group, 0, runtime.field_tokenizer, GroupPath(0)).group
    if encoded is None:
        return
    encoded = encoded.everywhere(explained=explained)
    builder = TreeBuilder()
    for_group(chosen, encoded).plan(encoded, builder)
    if builder.num_queries:
        tree = builder.build()
        priced = not (tree.want_entropy or tree.want_top)
        for query in range(tree.num_queries):
            yield _Query(*tree.query_context(query), grows=bool(tree.grows[query]), priced=priced)
    if not len(encoded.reference_ids):
        return
    trunk = encoded.trajectories[0].contexts[-1]  # of a thought that is not closed a reward may ask nothing
    yield _Query(np.concatenate([trunk, trunk[-1:]]), len(trunk), grows=False, priced=False)


def _earlier(group: Group) -> Group:
    """Return the group with a few tokens less; the group itself where it came as turns, which are complete."""
    sent = group.trajectories[0]
    if sent.response_token_ids is None:
        return group
    mask = None if sent.response_mask is None else sent.response_mask[:-EARLIER]
    shorter = sent.model_copy(
        update={"response_token_ids": sent.response_token_ids[:-EARLIER], "response_mask": mask}
    )
    return group.model_copy(update={"trajectories": [shorter]})
