"""GET /ui and below: the live page, its data, and its stream of news. Only with `--ui`.

The page's own files need no key and hold no data; everything else does. They are no part of the public API.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse

from opera_client.errors import InvalidRequest, NotFound
from opera_client.wire import problem_of
from opera_service.api.state import runtime_of, state_of
from opera_service.ui.live_page import LivePage
from opera_service.ui.queries import Filter, Question
from opera_service.ui.static_files import static_files

router = APIRouter(include_in_schema=False)

T = TypeVar("T")
MOST_ROWS = 500
"""Of one page."""
SECURITY = {
    # No inline script or style, nothing from elsewhere, no frame around it.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
PRIVATE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class ListQuery(BaseModel):
    """What of a list is asked."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    run: str | None = None
    first_step: int | None = None
    last_step: int | None = None
    flag: str | None = None
    reward_min: float | None = None
    reward_max: float | None = None
    text: str | None = Field(None, max_length=1000)
    question: Question | None = None
    sort: str | None = Field(None, pattern=r'^(reward|tokens|level|components\.[^"\\]{1,100})$')
    descending: bool = True
    offset: int = Field(0, ge=0, le=2**40)
    limit: int = Field(100, ge=1, le=MOST_ROWS)

    @property
    def filter(self) -> Filter:
        """All but which page."""
        return Filter(**self.model_dump(exclude={"offset", "limit"}))


@router.get("/ui")
async def get_ui() -> Response:
    """Lead to the page; its own links count from the slash on."""
    return RedirectResponse("ui/")


@router.get("/ui/")
@router.get("/ui/icon.svg")
@router.get("/ui/assets/{name}")
async def get_static(request: Request) -> Response:
    """Return a file of the page."""
    file = static_files().get(request.url.path.rpartition("/ui/")[2] or "index.html")
    if file is None:
        raise NotFound(f"the page has no file {request.url.path}")
    headers = {**SECURITY, "Cache-Control": "no-cache", "ETag": file.etag}
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)


@router.get("/ui/api/overview")
async def get_overview(request: Request) -> Response:
    """Return all runs, what is kept, and the model."""
    model = runtime_of(request).model().model_dump(mode="json")
    found = await _ask(request, LivePage.overview)
    return _json({**found, "model": model, "version": version("opera-reward")})


@router.get("/ui/api/series")
async def get_series(request: Request) -> Response:
    """Return one run step by step."""
    run = request.query_params.get("run")
    if run is None:
        raise InvalidRequest("names the run", field="run")
    return _json(await _ask(request, lambda page: page.series(run)))


@router.get("/ui/api/groups")
async def get_groups(request: Request) -> Response:
    query = _query(request)
    return _json(await _ask(request, lambda page: page.groups(query.filter, query.offset, query.limit)))


@router.get("/ui/api/trajectories")
async def get_trajectories(request: Request) -> Response:
    query = _query(request)
    return _json(await _ask(request, lambda page: page.trajectories(query.filter, query.offset, query.limit)))


@router.get("/ui/api/groups/{key}")
async def get_group(request: Request, key: str) -> Response:
    if not key.isdecimal() or len(key) > 15:
        raise InvalidRequest("is the number of a group", field="key")
    return _json(await _ask(request, lambda page: page.group(int(key))))


@router.get("/ui/events")
async def get_events(request: Request) -> Response:
    """Say when there is news, for as long as the page listens or the service serves."""
    lifecycle = state_of(request).lifecycle
    messages = _page(request).feed.messages(lambda: lifecycle.draining)
    return StreamingResponse(
        messages, media_type="text/event-stream", headers={**PRIVATE, "X-Accel-Buffering": "no"}
    )


def _page(request: Request) -> LivePage:
    page = state_of(request).live_page
    assert page is not None, "these routes are there only with --ui"
    return page


async def _ask(request: Request, question: Callable[[LivePage], T]) -> T:
    return await asyncio.to_thread(question, _page(request))


def _query(request: Request) -> ListQuery:
    try:
        return ListQuery.model_validate(dict(request.query_params))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidRequest(problem_of(first), field=".".join(map(str, first["loc"]))) from None


def _json(value: dict[str, Any]) -> Response:
    return JSONResponse(value, headers=PRIVATE)
