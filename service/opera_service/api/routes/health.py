"""Probes and metrics. Probes need no key."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from opera_client.errors import Unauthorized
from opera_client.wire import Health
from opera_service.api.body import small
from opera_service.api.describing import described
from opera_service.api.state import state_of

router = APIRouter(tags=["operations"])


async def _answer(health: Health, *, well: bool) -> Response:
    return await small(health, status=200 if well else 503)


@router.get("/livez", **described("Is the process alive?", answer=Health))
async def get_livez(request: Request) -> Response:
    """Answer 200 as long as the event loop runs, however busy it is; restart the process otherwise.

    An engine that was lost and could not be replaced five times in a row is 503, too: a new process might.
    """
    return await _answer(state_of(request).lifecycle.health(), well=state_of(request).lifecycle.alive)


@router.get("/startupz", **described("Has the model been loaded?", answer=Health))
async def get_startupz(request: Request) -> Response:
    """Answer 503 until the weights are in memory."""
    health = state_of(request).lifecycle.health()
    return await _answer(health, well=state_of(request).lifecycle.loaded)


@router.get("/readyz", **described("Can it score now?", answer=Health))
async def get_readyz(request: Request) -> Response:
    """Answer 503 while starting or draining, and after the engine has failed."""
    health = state_of(request).lifecycle.health()
    return await _answer(health, well=health.status == "ok")


@router.get("/health", **described("The same as /readyz", answer=Health))
async def get_health(request: Request) -> Response:
    """Answer like /readyz."""
    return await get_readyz(request)


@router.get("/metrics", **described("Prometheus metrics", errors=(Unauthorized,)))
async def get_metrics(request: Request) -> Response:
    """Return counters, histograms and live gauges, prefix `opera_`."""
    return Response(state_of(request).metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")
