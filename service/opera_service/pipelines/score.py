"""POST /score: log-probabilities of one target after one context, item by item, and after others.

Items of a request share token trees, so equal contexts are computed once, whoever's they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from opera_client.errors import OperaError
from opera_client.wire import OtherContextResult, ScoreItem, ScoreItemResult, ScoreRequest, ScoreResult
from opera_service.failures import or_raise
from opera_service.pipelines.perplexity import perplexity, total_and_mean
from opera_service.pipelines.request_context import RequestContext
from opera_service.pipelines.runtime import Runtime
from opera_service.pipelines.token_text import TokenText
from opera_service.scoring.planner import Place, Planner
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import TokenTree
from opera_service.trajectories.encode_score import EncodedScore, encode_score

Logprobs = NDArray[np.floating]


class _Planned(NamedTuple):
    place: Place
    encoded: EncodedScore
    others: tuple[Place, ...]


async def score(runtime: Runtime, request: ScoreRequest, *, deadline: float | None = None) -> ScoreResult:
    """Score every item that can be scored. `deadline` is a time of the runtime's clock."""
    runtime.limits.check_items(len(request.items))
    version = request.weight_version
    with RequestContext(
        runtime, request, "items", run_id=request.run_id, weight_version=version, deadline=deadline
    ) as context:
        trees, plans = await context.encode(_plan, runtime, request.items)
        scores = await context.score(trees)
        items = await context.read(_read, context, request, plans, scores)
    return ScoreResult(model=context.model, items=items, usage=context.usage, timing_ms=context.timing)


def _plan(runtime: Runtime, items: Sequence[ScoreItem]) -> tuple[list[TokenTree], list[_Planned | OperaError]]:
    # Entropies in trees of their own: an engine that has none fails those, not their neighbours.
    plain, with_entropies = Planner(runtime.max_batch_tokens), Planner(runtime.max_batch_tokens)
    plans: list[_Planned | OperaError] = []
    for index, item in enumerate(items):
        try:
            encoded = encode_score(item, index, runtime.field_tokenizer)
            place = (with_entropies if item.entropy else plain).add(encoded.context, encoded.target)
            others = tuple(plain.add(context, encoded.target) for context in encoded.others)
            plans.append(_Planned(place, encoded, others))
        except OperaError as error:
            plans.append(error)
    trees = plain.build()
    for index, plan in enumerate(plans):
        if items[index].entropy and isinstance(plan, _Planned):
            plans[index] = plan._replace(place=Place(len(trees) + plan.place.tree, plan.place.query))
    return trees + with_entropies.build(want_entropy=True), plans


def _read(
    context: RequestContext,
    request: ScoreRequest,
    plans: Sequence[_Planned | OperaError],
    scores: Sequence[TreeScores | OperaError],
) -> list[ScoreItemResult]:
    results = []
    for index, (item, plan) in enumerate(zip(request.items, plans, strict=True)):
        name = item.id if item.id is not None else str(index)
        try:
            results.append(_result(context.runtime, item, name, plan, scores, tokens=request.detail == "tokens"))
        except OperaError as error:
            failure = context.error(error, f"items.{index}")
            results.append(ScoreItemResult(id=name, status="error", error=failure))
    return results


def _result(
    runtime: Runtime,
    item: ScoreItem,
    name: str,
    plan: _Planned | OperaError,
    answers: Sequence[TreeScores | OperaError],
    *,
    tokens: bool,
) -> ScoreItemResult:
    plan = or_raise(plan)
    priced = plan.encoded.priced
    scores = or_raise(answers[plan.place.tree])
    logprobs = scores.of(plan.place.query)
    entropies = scores.entropies_of(plan.place.query) if item.entropy else None
    total, mean = total_and_mean(logprobs[priced])
    others = [
        _other(other.name, or_raise(answers[place.tree]).of(place.query), logprobs, priced, tokens=tokens)
        for other, place in zip(item.other_contexts, plan.others, strict=True)
    ]
    return ScoreItemResult(
        id=name,
        status="ok",
        sum_logprob=total,
        mean_logprob=mean,
        perplexity=perplexity(mean),
        tokens=int(priced.sum()),
        mean_entropy=None if entropies is None else total_and_mean(entropies[priced])[1],
        token_ids=plan.encoded.target.tolist() if tokens else None,
        token_texts=TokenText(runtime.tokenizer, plan.encoded.target).tokens if tokens else None,
        token_logprobs=_where(priced, logprobs) if tokens else None,
        token_entropies=_where(priced, entropies) if tokens and entropies is not None else None,
        other_contexts=others or None,
    )


def _other(
    name: str, there: Logprobs, own: Logprobs, priced: NDArray[np.bool_], *, tokens: bool
) -> OtherContextResult:
    difference = np.asarray(there, dtype=np.float64) - np.asarray(own, dtype=np.float64)
    total, mean = total_and_mean(there[priced])
    total_difference, mean_difference = total_and_mean(difference[priced])
    return OtherContextResult(
        name=name,
        sum_logprob=total,
        mean_logprob=mean,
        sum_difference=total_difference,
        mean_difference=mean_difference,
        token_logprobs=_where(priced, there) if tokens else None,
        token_differences=_where(priced, difference) if tokens else None,
    )


def _where(priced: NDArray[np.bool_], values: Logprobs) -> list[float | None]:
    return [value if counts else None for value, counts in zip(values.tolist(), priced.tolist(), strict=True)]
