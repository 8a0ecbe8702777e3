"""POST /openrlhf/reward."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import Response

from opera_client.errors import InvalidRequest
from opera_client.wire import problem_of
from opera_service.api import examples
from opera_service.api.answering import receive, respond
from opera_service.api.describing import MEMBER_ERRORS, described
from opera_service.pipelines.openrlhf import (
    ANSWER_WITHIN_S,
    OpenRLHFQuery,
    OpenRLHFRequest,
    OpenRLHFResult,
    reward_samples,
)

router = APIRouter(tags=["rewards"])


@router.post(
    "/openrlhf/reward",
    **described(
        "Reward samples for OpenRLHF's --reward.remote_url",
        body=OpenRLHFRequest,
        answer=OpenRLHFResult,
        ask=examples.OPENRLHF_REQUEST,
        query=OpenRLHFQuery,
        errors=MEMBER_ERRORS,
    ),
)
async def post_openrlhf(request: Request) -> Response:
    """Gather `group_size` samples of equal prompt and label, score them as one group, answer each with scalars.

    Samples carry no ids: the n+1-th of a prompt opens its next group, and a retry is recognised by its text. After
    `wait_s` (below the trainer's 180 s) the samples present are rewarded. A sample that cannot be scored gets its
    group's mean, a group that cannot be scored one constant; `extra_logs` has `opera_failed` then. Give the
    trainer one URL: members of a group must reach the same process.
    """
    query = _query(request)
    call = await receive(request, OpenRLHFRequest, timeout_s=ANSWER_WITHIN_S)
    return await respond(call, partial(reward_samples, query), replays=False)


def _query(request: Request) -> OpenRLHFQuery:
    try:
        return OpenRLHFQuery.model_validate(dict(request.query_params))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        raise InvalidRequest(
            f"{problem_of(first)} in the URL, as in ?group_size=8&wait_s=60", field=name
        ) from None
