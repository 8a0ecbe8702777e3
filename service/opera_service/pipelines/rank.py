"""POST /rank: order candidate branches after one shared prefix by log-probability.

`branch` is the mean over the branch's own tokens; `sequence` the mean over prefix + branch. All branches share
the prefix's log-prob C, so `sequence` is (C + sum) / (|prefix| + tokens): it leans towards longer branches when
the prefix is less likely per token than they are. `reference` prices the reference after prefix + branch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opera_client.errors import EmptyReference, EmptyResponse, OperaError
from opera_client.wire import Candidate, CandidateResult, RankItem, RankItemResult, RankRequest, RankResult
from opera_service.pipelines.run import Run, or_raise, perplexity, total_and_mean
from opera_service.pipelines.service import Service
from opera_service.pipelines.tokens import check_length, ids_of
from opera_service.scoring.tree import ROOT, Ids, TokenTree, TreeBuilder, TreeScores


@dataclass(frozen=True)
class _Planned:
    """One item on its way: its tree, unless nothing of it can be scored, and each candidate's query."""

    tree: TokenTree | None
    queries: list[int | OperaError]


async def rank(service: Service, request: RankRequest, *, deadline: float | None = None) -> RankResult:
    """Order the candidates of every item. `deadline` is a time of the service's clock."""
    run = Run(service, weight_version=request.weight_version, deadline=deadline)
    plans = await run.encode(_plan_all, service, request.items)
    scores = await run.score([plan.tree for plan in plans])
    items = await service.in_thread(_read_all, run, request.items, plans, scores)
    return RankResult(model=run.model, items=items, usage=run.usage, timing_ms=run.timing)


def _plan_all(service: Service, items: Sequence[RankItem]) -> list[_Planned]:
    plans = []
    for index, item in enumerate(items):
        try:
            plans.append(_plan(service, item, f"items.{index}"))
        except OperaError as error:
            plans.append(_Planned(None, [error] * len(item.candidates)))
    return plans


def _plan(service: Service, item: RankItem, field: str) -> _Planned:
    tokenizer, info = service.tokenizer, service.engine.info
    prompt = ids_of(tokenizer, item.prompt, item.prompt_token_ids, info, field=f"{field}.prompt")
    prefix = ids_of(tokenizer, item.prefix, item.prefix_token_ids, info, field=f"{field}.prefix")
    reference = None
    if item.by == "reference":
        reference = ids_of(tokenizer, item.reference, item.reference_token_ids, info, field=f"{field}.reference")
        if len(reference) == 0:
            raise EmptyReference("the reference has no tokens; give one", field=f"{field}.reference")
    builder = TreeBuilder()
    queries: list[int | OperaError] = []
    for number, candidate in enumerate(item.candidates):
        where = f"{field}.candidates.{number}"
        try:
            branch = _branch(service, candidate, where)
            context, target = _query(item, prompt, prefix, branch, reference)
            check_length(len(context), len(target), info, field=where)
            queries.append(builder.score(builder.extend(ROOT, context), target))
        except OperaError as error:
            queries.append(error)
    scorable = any(isinstance(query, int) for query in queries)
    return _Planned(builder.build() if scorable else None, queries)


def _branch(service: Service, candidate: str | Candidate, field: str) -> Ids:
    text, ids = (candidate, None) if isinstance(candidate, str) else (None, candidate.token_ids)
    branch = ids_of(service.tokenizer, text, ids, service.engine.info, field=field)
    if len(branch) == 0:
        raise EmptyResponse("the candidate has no tokens; give at least one", field=field)
    return branch


def _query(item: RankItem, prompt: Ids, prefix: Ids, branch: Ids, reference: Ids | None) -> tuple[Ids, Ids]:
    """Return the context and the target whose log-probability orders the branch."""
    if reference is not None:
        return np.concatenate([prompt, prefix, branch]), reference
    if item.by == "sequence":
        return prompt, np.concatenate([prefix, branch])
    return np.concatenate([prompt, prefix]), branch


def _read_all(
    run: Run,
    items: Sequence[RankItem],
    plans: Sequence[_Planned],
    scores: Sequence[TreeScores | OperaError],
) -> list[RankItemResult]:
    results = []
    for index, (item, plan, answer) in enumerate(zip(items, plans, scores, strict=True)):
        candidates = []
        for number, query in enumerate(plan.queries):
            try:
                query = or_raise(query)  # before the tree: without any query there is none
                logprobs = or_raise(answer).of(query)
                candidates.append(_candidate(logprobs, by_sum=item.by == "branch_sum"))
            except OperaError as error:
                failure = run.error(error, f"items.{index}.candidates.{number}")
                candidates.append(CandidateResult(status="error", error=failure))
        results.append(_ordered(item.id if item.id is not None else str(index), candidates))
    return results


def _candidate(logprobs: NDArray[np.floating], *, by_sum: bool) -> CandidateResult:
    total, mean = total_and_mean(logprobs)
    return CandidateResult(
        status="ok",
        score=total if by_sum else mean,
        mean_logprob=mean,
        sum_logprob=total,
        perplexity=perplexity(mean),
        tokens=len(logprobs),
    )


def _ordered(name: str, candidates: list[CandidateResult]) -> RankItemResult:
    """Rank the scored candidates, best first; `sorted` is stable, so ties keep their order."""
    scored = [(index, one.score) for index, one in enumerate(candidates) if one.score is not None]
    ranking = [index for index, _ in sorted(scored, key=lambda pair: -pair[1])]
    for place, index in enumerate(ranking):
        candidates[index].rank = place
    if ranking:
        return RankItemResult(id=name, status="ok", ranking=ranking, candidates=candidates)
    return RankItemResult(id=name, status="error", ranking=[], candidates=candidates, error=candidates[0].error)
