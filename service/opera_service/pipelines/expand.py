"""POST /expand: sample branches after a shared prefix, cut them at their stop texts, order them like /rank.

Sampling is the engine's, everything about text happens here, so that every engine ends a branch at the same token.
The ranking is a tree pass of its own: exactly what /rank says about the answered ids, on the weights that sampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from opera_client.errors import InvalidRequest, OperaError
from opera_client.wire import (
    BranchResult,
    CandidateResult,
    ExpandItem,
    ExpandItemResult,
    ExpandRequest,
    ExpandResult,
    ExpandTiming,
    ExpandUsage,
)
from opera_service.engines.base import Generation, GenerationRequest
from opera_service.pipelines.rank import Planned, price, put_in_order
from opera_service.pipelines.request_context import RequestContext
from opera_service.pipelines.runtime import Runtime
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import Ids
from opera_service.trajectories.encode_expand import EncodedExpand, encode_expand
from opera_service.trajectories.stopping import StopTexts, bytes_behind

MAX_NEW_TOKENS = 2**22
"""Tokens that one request may ask for: the sum of n * max_tokens over its items."""
_STREAMS = 256
"""Between the seeds of two guiding words, so that their branches are sampled independently: the largest n."""


@dataclass(frozen=True)
class _Asked:
    """One item, ready to be sampled."""

    encoded: EncodedExpand
    requests: list[GenerationRequest]
    """One for every distinct guiding word."""
    places: list[list[int]]
    """By request: the branches that its continuations are."""
    stops: list[StopTexts]
    """By request."""


@dataclass(frozen=True)
class _Branch:
    """One sampled branch, cut."""

    ids: Ids
    text: str
    stopped_by: str | None


@dataclass(frozen=True)
class _Sampled:
    """One item with its branches, ready to be priced."""

    branches: list[_Branch]
    plan: Planned
    scored: list[int]
    """Branches that have tokens, in the order of the plan's queries."""


async def expand(runtime: Runtime, request: ExpandRequest, *, deadline: float | None = None) -> ExpandResult:
    """Sample and order the branches of every item. `deadline` is a time of the runtime's clock.

    Raises `InvalidRequest` when more than `MAX_NEW_TOKENS` are asked for, `WeightVersionMismatch`, `Unavailable`
    when the weights changed between sampling and ranking, the first item's error when none could be sampled.
    """
    runtime.limits.check_items(len(request.items))
    runtime.limits.check_branches([item.n for item in request.items], "n")
    new_tokens = sum(item.n * item.max_tokens for item in request.items)
    if new_tokens > MAX_NEW_TOKENS:
        raise InvalidRequest(
            f"n * max_tokens sums up to {new_tokens} new tokens, one request may ask for {MAX_NEW_TOKENS}; "
            "send fewer items at a time, or lower n or max_tokens",
            field="items",
        )
    with RequestContext(
        runtime,
        request,
        "items",
        run_id=request.run_id,
        weight_version=request.weight_version,
        deadline=deadline,
        new_tokens=new_tokens,
    ) as context:
        asked = await context.encode(_ask_all, runtime, request.items)
        good = [one for one in asked if isinstance(one, _Asked)]
        found = iter(await context.generate([one.requests for one in good]) if good else [])
        answers = [one if isinstance(one, OperaError) else next(found) for one in asked]
        sampled = await runtime.in_thread(_cut_all, runtime, asked, answers)
        scores = await context.score([one.plan.tree if isinstance(one, _Sampled) else None for one in sampled])
        items = await context.read(_read_all, context, request.items, sampled, scores)
    return ExpandResult(
        model=context.model,
        items=items,
        usage=ExpandUsage(**context.usage.model_dump(), generated_tokens=context.generated_tokens),
        timing_ms=ExpandTiming(**context.timing.model_dump(), generate=context.generate_ms),
    )


def _ask_all(runtime: Runtime, items: Sequence[ExpandItem]) -> list[_Asked | OperaError]:
    asked: list[_Asked | OperaError] = []
    for index, item in enumerate(items):
        try:
            asked.append(_ask(runtime, item, encode_expand(item, index, runtime.field_tokenizer)))
        except OperaError as error:
            asked.append(error)
    return asked


def _ask(runtime: Runtime, item: ExpandItem, encoded: EncodedExpand) -> _Asked:
    places: dict[bytes, list[int]] = {}
    for branch, guide in enumerate(encoded.guides):
        places.setdefault(guide.tobytes(), []).append(branch)
    requests, stops = [], []
    for number, branches in enumerate(places.values()):
        start = encoded.start(branches[0])
        texts = StopTexts(item.stop, start, runtime.tokenizer, behind=item.stop_after)
        stops.append(texts)
        requests.append(
            GenerationRequest(
                prompt_ids=start,
                n=len(branches),
                max_tokens=item.max_tokens,
                temperature=item.temperature,
                top_p=item.top_p,
                top_k=item.top_k,
                seed=None if item.seed is None else item.seed + number * _STREAMS,
                stop_ids=tuple(sorted(runtime.tokenizer.end_ids)),
                enough=texts.seen,
            )
        )
    return _Asked(encoded, requests, list(places.values()), stops)


def _cut_all(
    runtime: Runtime,
    asked: Sequence[_Asked | OperaError],
    answers: Sequence[list[list[Generation]] | OperaError],
) -> list[_Sampled | OperaError]:
    sampled: list[_Sampled | OperaError] = []
    for item, answer in zip(asked, answers, strict=True):
        if isinstance(item, OperaError):
            sampled.append(item)
        elif isinstance(answer, OperaError):
            sampled.append(answer)
        else:
            sampled.append(_cut(runtime, item, answer))
    return sampled


def _cut(runtime: Runtime, item: _Asked, answer: Sequence[Sequence[Generation]]) -> _Sampled:
    branches: dict[int, _Branch] = {}
    for places, stops, generations in zip(item.places, item.stops, answer, strict=True):
        for branch, generation in zip(places, generations, strict=True):
            branches[branch] = _branch(runtime, item.encoded, branch, stops, generation)
    ordered = [branches[branch] for branch in range(len(branches))]
    scored = [branch for branch, one in enumerate(ordered) if len(one.ids)]
    candidates = {number: ordered[branch].ids for number, branch in enumerate(scored)}
    plan = Planned.of(replace(item.encoded.shared, candidates=candidates), len(scored))
    return _Sampled(ordered, plan, scored)


def _branch(
    runtime: Runtime, encoded: EncodedExpand, branch: int, stops: StopTexts, generation: Generation
) -> _Branch:
    ids, ended = generation.token_ids, generation.finish_reason == "stop"
    stopped_by = None
    if ended:
        stopped_by = runtime.tokenizer.decode(ids[-1:])
        ids = ids[:-1]
    stop = stops.find(ids, ended=ended)
    if stop is not None:
        ids, stopped_by = ids[: stop.kept], stop.text
    ids = np.concatenate([encoded.guides[branch], ids])
    _, written = bytes_behind(encoded.shared.context_ids, ids, runtime.tokenizer)
    return _Branch(ids, written.decode(errors="replace"), stopped_by)


def _read_all(
    context: RequestContext,
    items: Sequence[ExpandItem],
    sampled: Sequence[_Sampled | OperaError],
    scores: Sequence[TreeScores | OperaError],
) -> list[ExpandItemResult]:
    results = []
    for index, (item, one, answer) in enumerate(zip(items, sampled, scores, strict=True)):
        name = item.id if item.id is not None else str(index)
        if isinstance(one, OperaError):
            failure = context.error(one, f"items.{index}")
            results.append(ExpandItemResult(id=name, status="error", ranking=[], candidates=[], error=failure))
        else:
            results.append(_read(context, item, name, one, answer, f"items.{index}"))
    return results


def _read(
    context: RequestContext,
    item: ExpandItem,
    name: str,
    sampled: _Sampled,
    answer: TreeScores | OperaError,
    field: str,
) -> ExpandItemResult:
    priced = price(context, sampled.plan, answer, by=item.by, field=f"{field}.candidates")
    numbers = dict(zip(sampled.scored, priced, strict=True))
    words = item.guiding_words
    candidates = [
        BranchResult(
            **numbers.get(branch, _EMPTY).model_dump(),
            text=one.text,
            token_ids=one.ids.tolist(),
            guiding_word=words[branch % len(words)] if words else None,
            finish_reason="length" if one.stopped_by is None else "stop",
            stopped_by=one.stopped_by,
        )
        for branch, one in enumerate(sampled.branches)
    ]
    ranking = put_in_order(candidates)
    return ExpandItemResult(
        id=name,
        status="ok" if ranking else "error",
        ranking=ranking,
        candidates=candidates,
        error=None if ranking else candidates[0].error,
    )


_EMPTY = CandidateResult(status="ok", tokens=0)
