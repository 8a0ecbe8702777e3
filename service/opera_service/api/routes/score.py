"""POST /score."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from opera_client.errors import IdempotencyKeyReused, TooManyItems
from opera_client.wire import ScoreRequest, ScoreResult
from opera_service.api import examples
from opera_service.api.answering import deadline_of, finished, read, reply, service_of
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
    service = service_of(request)
    body = await read(request, ScoreRequest)
    deadline = deadline_of(request, body.timeout_s)
    work = partial(score, service, body, deadline=deadline)
    return await reply(request, body, lambda: finished(work()), deadline=deadline)
