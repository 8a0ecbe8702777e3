"""Rewarded requests as entries of the audit log.

Knows the wire and what the log keeps; not how it is written.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from opera_client.wire import Group, Prompt, SegmentResult, Trajectory, TrajectoryResult, texts_of
from opera_service.audit.entries import BETWEEN_REFERENCES, NOTHING, Entry, MemberEntry, Sent
from opera_service.audit.writer import AuditLog
from opera_service.observability import logs
from opera_service.observability.rewarded import Rewarded, Subscriber
from opera_service.pipelines.reward_segments import segments_of


def recorder(log: AuditLog) -> Subscriber:
    """Return the subscriber that writes every rewarded request into `log`."""

    def record(event: Rewarded) -> None:
        for entry in entries_of(event, keep_sent=log.keep_sent):
            log.record(entry)

    return record


def entries_of(event: Rewarded, *, keep_sent: bool) -> Iterator[Entry]:
    """Yield one entry a group."""
    request, answer, model, second = event.request, event.result, event.result.model, event.result.second_model
    now, named = time.time(), logs.request_id.get()
    for one in event.groups:
        group, result = one.asked, one.result
        # Whatever detail was asked for, the log keeps the thoughts, and no log-probs of single tokens.
        segments = {
            each.result.id: each.result.segments
            if request.detail == "segments" and each.result.segments is not None
            else segments_of(each.encoded, each.outcome, tokens=False)
            for each in one.scored()
        }
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
            second=None if second is None else (second.name, second.revision, second.weight_version),
            members=tuple(
                _member(sent, each, segments.get(each.id), fresh=event.is_fresh(each.id), keep_sent=keep_sent)
                for sent, each in pairs
            ),
            prompt=_prompt(group.prompt, group) if keep_sent else NOTHING,
            reference=_reference(group) if keep_sent else NOTHING,
            reference_tokens=result.reference_tokens,
            expected=event.expected,
            diagnostics=result.diagnostics,
        )


def _member(
    sent: Trajectory,
    result: TrajectoryResult,
    segments: Sequence[SegmentResult] | None,
    *,
    fresh: bool,
    keep_sent: bool,
) -> MemberEntry:
    return MemberEntry(
        id=result.id,
        fresh=fresh,
        status=result.status,
        reward=result.reward,
        components=result.components,
        mean_logprob=result.mean_logprob,
        flags=tuple(result.flags),
        error=None if result.error is None else result.error.code,
        response=_response(sent) if keep_sent else NOTHING,
        turns=tuple(turn.model_dump(exclude_none=True) for turn in sent.turns)
        if keep_sent and sent.turns
        else None,
        response_mask=sent.response_mask if keep_sent else None,
        response_tokens=result.response_tokens,
        segments=None if segments is None else tuple(segments),
    )


def _response(sent: Trajectory) -> Sent:
    if sent.turns is None:
        return Sent(sent.response, sent.response_token_ids)
    said = [f"[{turn.role}]\n{turn.content}" for turn in sent.turns if turn.content]
    return Sent("\n\n".join(said) or None)


def _reference(group: Group) -> Sent:
    texts = texts_of(group.reference)
    return Sent(BETWEEN_REFERENCES.join(texts) if texts else None, group.reference_token_ids)


def _prompt(prompt: Prompt | None, group: Group) -> Sent:
    if isinstance(prompt, list):
        return Sent([message.model_dump() for message in prompt], group.prompt_token_ids)
    return Sent(prompt, group.prompt_token_ids)
