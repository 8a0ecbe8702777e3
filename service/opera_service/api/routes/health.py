"""Probes and metrics. Probes need no key."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from opera_client.errors import Unauthorized
from opera_client.wire import Health
from opera_service.api.answering import lifecycle_of
from opera_service.api.body import dump
from opera_service.api.describing import described

router = APIRouter(tags=["operations"])


async def _answer(health: Health, *, well: bool) -> Response:
    body = await dump(health, large=False)
    return Response(body, status_code=200 if well else 503, media_type="application/json")


@router.get("/livez", **described("Is the process alive?", answer=Health))
async def get_livez(request: Request) -> Response:
    """Answer 200 as long as the event loop runs, however busy it is; restart the process otherwise.

    An engine that was lost and could not be replaced five times in a row is 503, too: a new process might.
    """
    return await _answer(lifecycle_of(request).health(), well=lifecycle_of(request).alive)


@router.get("/startupz", **described("Has the model been loaded?", answer=Health))
async def get_startupz(request: Request) -> Response:
    """Answer 503 until the weights are in memory."""
    health = lifecycle_of(request).health()
    return await _answer(health, well=lifecycle_of(request).loaded)


@router.get("/readyz", **described("Can it score now?", answer=Health))
async def get_readyz(request: Request) -> Response:
    """Answer 503 while starting or draining, and after the engine has failed."""
    health = lifecycle_of(request).health()
    return await _answer(health, well=health.status == "ok")


@router.get("/health", **described("The same as /readyz", answer=Health))
async def get_health(request: Request) -> Response:
    """Answer like /readyz."""
    return await get_readyz(request)


@router.get("/metrics", **described("Prometheus metrics", errors=(Unauthorized,)))
async def get_metrics(request: Request) -> Response:
    """Return counters, histograms and live gauges, prefix `opera_`."""
    return Response(lifecycle_of(request).metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")
