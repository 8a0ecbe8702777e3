"""POST /verify."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import Response

from opera_client.errors import InvalidRequest
from opera_client.wire import problem_of
from opera_service.api import examples
from opera_service.api.answering import receive, respond
from opera_service.api.describing import SCORING_ERRORS, described
from opera_service.pipelines.verify import VerifyQuery, VerifyRequest, VerifyResult, verify

router = APIRouter(tags=["rewards"])


@router.post(
    "/verify",
    **described(
        "Reward one rollout for NeMo-Gym",
        body=VerifyRequest,
        answer=VerifyResult,
        ask=examples.VERIFY_REQUEST,
        query=VerifyQuery,
        errors=SCORING_ERRORS,
    ),
)
async def post_verify(request: Request) -> Response:
    """Reward a rollout of NeMo-Gym: thoughts, texts, tool calls and their outputs, as the Responses API has them.

    Where NeMo-Gym's model server kept token ids of every call, they are scored; else the model's chat template
    writes the turns. One rollout a call, so a reward that compares members has nobody to compare with but an empty
    response. What cannot be scored is an error, never a reward of 0.
    """
    try:
        query = VerifyQuery.model_validate(dict(request.query_params))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidRequest(f"{problem_of(first)} in the URL", field=str(first["loc"][0])) from None
    return await respond(await receive(request, VerifyRequest), partial(verify, query), replays=False)
