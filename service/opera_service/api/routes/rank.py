"""POST /rank."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from opera_client.errors import IdempotencyKeyReused, TooManyBranches, TooManyItems
from opera_client.wire import RankRequest, RankResult
from opera_service.api import examples
from opera_service.api.answering import receive, respond
from opera_service.api.describing import SCORING_ERRORS, described
from opera_service.pipelines.rank import rank

router = APIRouter(tags=["rewards"])


@router.post(
    "/rank",
    **described(
        "Order candidate branches by log-probability",
        body=RankRequest,
        answer=RankResult,
        ask=examples.RANK_REQUEST,
        get=examples.RANK_RESULT,
        errors=(*SCORING_ERRORS, IdempotencyKeyReused, TooManyItems, TooManyBranches),
    ),
)
async def post_rank(request: Request) -> Response:
    """Order the candidates of each item after one shared prefix, best first, ties by index.

    `by`: `branch` (mean log-prob of the branch; default), `branch_sum`, `sequence` (mean over prefix + branch:
    all branches share the prefix's log-prob, so a branch's length tips the scale), `reference` (mean log-prob of
    `reference` after prefix + branch). Every text is tokenised alone. A bad candidate has its own `error`.
    """
    return await respond(await receive(request, RankRequest), rank)
