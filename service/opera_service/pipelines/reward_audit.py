"""An answer of /reward as entries of the audit log.

Knows the wire and what the log keeps; not how it is written.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator

from opera_client.wire import Group, Prompt, RewardRequest, RewardResult, Trajectory, TrajectoryResult
from opera_service.audit.entries import NOTHING, Entry, MemberEntry, Sent
from opera_service.observability import logs


def entries_of(
    request: RewardRequest, answer: RewardResult, *, fresh: Collection[str] | None, keep_sent: bool
) -> Iterator[Entry]:
    """Yield one entry a group; `fresh` as in `reward`."""
    model, now, named = answer.model, time.time(), logs.request_id.get()
    for group, result in zip(request.groups, answer.groups, strict=True):
        pairs = zip(group.trajectories, result.trajectories, strict=True)
        yield Entry(
            time=now,
            request_id=named,
            run_id=request.run_id,
            step=request.step,
            group_id=result.group_id,
            task=group.task,
            reward=request.reward,
            preset=request.preset,
            config=request.config,
            config_hash=answer.config_hash,
            model=model.name,
            revision=model.revision,
            weight_version=model.weight_version,
            dtype=model.dtype,
            engine=model.engine,
            initial_mean_logprob=result.initial_mean_logprob,
            members=tuple(_member(sent, one, fresh, keep_sent=keep_sent) for sent, one in pairs),
            prompt=_prompt(group.prompt, group) if keep_sent else NOTHING,
            reference=Sent(group.reference, group.reference_token_ids) if keep_sent else NOTHING,
            reference_tokens=result.reference_tokens,
            diagnostics=result.diagnostics,
        )


def _member(
    sent: Trajectory, result: TrajectoryResult, fresh: Collection[str] | None, *, keep_sent: bool
) -> MemberEntry:
    return MemberEntry(
        id=result.id,
        fresh=fresh is None or result.id in fresh,
        status=result.status,
        reward=result.reward,
        components=result.components,
        mean_logprob=result.mean_logprob,
        flags=tuple(result.flags),
        error=None if result.error is None else result.error.code,
        response=Sent(sent.response, sent.response_token_ids) if keep_sent else NOTHING,
        response_tokens=result.response_tokens,
        segments=None if result.segments is None else tuple(result.segments),
    )


def _prompt(prompt: Prompt | None, group: Group) -> Sent:
    if isinstance(prompt, list):
        return Sent([message.model_dump() for message in prompt], group.prompt_token_ids)
    return Sent(prompt, group.prompt_token_ids)
