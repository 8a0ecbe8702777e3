"""POST /score."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from opera_client.errors import IdempotencyKeyReused, TooManyItems
from opera_client.wire import ScoreRequest, ScoreResult
from opera_service.api import examples
from opera_service.api.answering import receive, respond
from opera_service.api.describing import SCORING_ERRORS, described
from opera_service.pipelines.score import score

router = APIRouter(tags=["rewards"])


@router.post(
    "/score",
    **described(
        "Plain log-probabilities of targets",
        body=ScoreRequest,
        answer=ScoreResult,
        ask=examples.SCORE_REQUEST,
        get=examples.SCORE_RESULT,
        errors=(*SCORING_ERRORS, IdempotencyKeyReused, TooManyItems),
    ),
)
async def post_score(request: Request) -> Response:
    """Price each item's target after its context; with `detail: tokens`, token by token."""
    return await respond(await receive(request, ScoreRequest), score)
