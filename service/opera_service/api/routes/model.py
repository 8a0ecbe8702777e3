"""GET /model and GET /rewards: what is served and what it can compute."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from opera_client.wire import RewardsInfo, ServedModel
from opera_service.api.body import small
from opera_service.api.describing import COMMON_ERRORS, described
from opera_service.api.state import runtime_of
from opera_service.rewards.registry import describe

router = APIRouter(tags=["model"])


@router.get("/model", **described("The served model and its limits", answer=ServedModel, errors=COMMON_ERRORS))
async def get_model(request: Request) -> Response:
    """Return name, revision, weight version, dtype, route and limits."""
    return await small(runtime_of(request).served_model())


@router.get("/rewards", **described("All rewards", answer=RewardsInfo, errors=COMMON_ERRORS))
async def get_rewards() -> Response:
    """Return every reward with what it needs, its source, presets and configuration schema."""
    return await small(RewardsInfo(rewards=list(describe())))
