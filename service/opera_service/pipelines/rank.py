"""POST /rank: order candidate branches after one shared prefix by log-probability.

`branch` is the mean over the branch's own tokens; `sequence` the mean over prefix + branch. All branches share
the prefix's log-prob C, so `sequence` is (C + sum) / (|prefix| + tokens): it leans towards longer branches when
the prefix is less likely per token than they are. `reference` prices the reference after prefix + branch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from opera_client.errors import OperaError
from opera_client.wire import CandidateResult, RankBy, RankItem, RankItemResult, RankRequest, RankResult
from opera_service.failures import or_raise
from opera_service.pipelines.perplexity import perplexity, total_and_mean
from opera_service.pipelines.request_context import RequestContext
from opera_service.pipelines.runtime import Runtime
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import ROOT, Ids, TokenTree, TreeBuilder
from opera_service.trajectories.encode_rank import EncodedRank, encode_rank


@dataclass(frozen=True)
class Planned:
    """One item on its way: its tree, unless nothing of it can be scored, and each candidate's query."""

    tree: TokenTree | None
    queries: list[int | OperaError]

    @classmethod
    def of(cls, item: EncodedRank, count: int) -> Planned:
        """Plan `count` candidates of `item`, each of which it has with its ids or with an error."""
        builder = TreeBuilder()
        queries: list[int | OperaError] = []
        for position in range(count):
            if position in item.errors:
                queries.append(item.errors[position])
            else:
                context, target = _query(item, item.candidates[position])
                queries.append(builder.score(builder.extend(ROOT, context), target))
        return cls(builder.build() if item.candidates else None, queries)


async def rank(runtime: Runtime, request: RankRequest, *, deadline: float | None = None) -> RankResult:
    """Order the candidates of every item. `deadline` is a time of the runtime's clock."""
    runtime.limits.check_items(len(request.items))
    runtime.limits.check_branches([len(item.candidates) for item in request.items], "candidates")
    version = request.weight_version
    with RequestContext(
        runtime, request, "items", run_id=request.run_id, weight_version=version, deadline=deadline
    ) as context:
        plans = await context.encode(_plan_all, runtime, request.items)
        scores = await context.score([plan.tree for plan in plans])
        items = await context.read(_read_all, context, request.items, plans, scores)
    return RankResult(model=context.model, items=items, usage=context.usage, timing_ms=context.timing)


def _plan_all(runtime: Runtime, items: Sequence[RankItem]) -> list[Planned]:
    plans = []
    for index, item in enumerate(items):
        try:
            plans.append(Planned.of(encode_rank(item, index, runtime.field_tokenizer), len(item.candidates)))
        except OperaError as error:
            plans.append(Planned(None, [error] * len(item.candidates)))
    return plans


def _query(item: EncodedRank, branch: Ids) -> tuple[Ids, Ids]:
    """Return the context and the target whose log-probability orders the branch."""
    if item.by == "reference":
        return np.concatenate([item.prompt_ids, item.prefix_ids, branch]), item.reference_ids
    if item.by == "sequence":
        return item.prompt_ids, np.concatenate([item.prefix_ids, branch])
    return np.concatenate([item.prompt_ids, item.prefix_ids]), branch


def _read_all(
    context: RequestContext,
    items: Sequence[RankItem],
    plans: Sequence[Planned],
    scores: Sequence[TreeScores | OperaError],
) -> list[RankItemResult]:
    results = []
    for index, (item, plan, answer) in enumerate(zip(items, plans, scores, strict=True)):
        candidates = price(context, plan, answer, by=item.by, field=f"items.{index}.candidates")
        ranking = put_in_order(candidates)
        results.append(
            RankItemResult(
                id=item.id if item.id is not None else str(index),
                status="ok" if ranking else "error",
                ranking=ranking,
                candidates=candidates,
                error=None if ranking else candidates[0].error,
            )
        )
    return results


def price(
    context: RequestContext, plan: Planned, answer: TreeScores | OperaError, *, by: RankBy, field: str
) -> list[CandidateResult]:
    """Return every candidate's log-probability or its error, not yet in order."""
    candidates = []
    for number, query in enumerate(plan.queries):
        try:
            query = or_raise(query)  # before the tree: without any query there is none
            logprobs = or_raise(answer).of(query)
            candidates.append(_priced(logprobs, by_sum=by == "branch_sum"))
        except OperaError as error:
            failure = context.error(error, f"{field}.{number}")
            candidates.append(CandidateResult(status="error", error=failure))
    return candidates


def _priced(logprobs: NDArray[np.floating], *, by_sum: bool) -> CandidateResult:
    total, mean = total_and_mean(logprobs)
    return CandidateResult(
        status="ok",
        score=total if by_sum else mean,
        mean_logprob=mean,
        sum_logprob=total,
        perplexity=perplexity(mean),
        tokens=len(logprobs),
    )


def put_in_order(candidates: Sequence[CandidateResult]) -> list[int]:
    """Give every good candidate its rank; return their indices, best first, those without a score last."""
    good = [(index, one.score) for index, one in enumerate(candidates) if one.status == "ok"]
    # `sorted` is stable, so ties keep their order.
    ranking = [index for index, _ in sorted(good, key=lambda pair: inf if pair[1] is None else -pair[1])]
    for place, index in enumerate(ranking):
        candidates[index].rank = place
    return ranking
