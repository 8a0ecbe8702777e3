"""POST /reward."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from opera_client.errors import IdempotencyKeyReused, TooManyGroups, TooManyTrajectories
from opera_client.wire import RewardRequest, RewardResult
from opera_service.api import examples
from opera_service.api.answering import receive, respond
from opera_service.api.describing import SCORING_ERRORS, described
from opera_service.pipelines.reward import score_groups

router = APIRouter(tags=["rewards"])


@router.post(
    "/reward",
    **described(
        "Score whole groups of trajectories",
        body=RewardRequest,
        answer=RewardResult,
        ask=examples.REWARD_REQUEST,
        get=examples.REWARD_RESULT,
        errors=(*SCORING_ERRORS, IdempotencyKeyReused, TooManyGroups, TooManyTrajectories),
    ),
)
async def post_reward(request: Request) -> Response:
    """Price each group's reference along every response, and turn the prices into rewards.

    A trajectory that cannot be scored answers `status: error` with its own code, and its neighbours are scored
    without it; a failure is never reward 0. When nothing at all could be scored because the service failed, the
    request fails as a whole, so that it can be retried.
    """
    return await respond(await receive(request, RewardRequest), score_groups)
