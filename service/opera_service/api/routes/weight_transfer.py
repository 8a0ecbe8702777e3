"""vLLM's own weight-transfer routes, as TRL's client speaks them, in front of the engine: versioned and atomic.

GET /get_world_size · POST /init_weight_transfer_engine, /start_weight_update, /update_weights,
/finish_weight_update · /pause, /resume, /reset_prefix_cache
"""

from __future__ import annotations

from typing import Any, TypeVar

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse

from opera_client.errors import Forbidden, NotSupported
from opera_client.wire import WeightVersion
from opera_service.api.answering import read
from opera_service.api.describing import BODY_ERRORS, described
from opera_service.api.state import admin_runtime_of
from opera_service.engines.base import WeightReceiver

router = APIRouter(tags=["policy"])
Body = TypeVar("Body", bound=BaseModel)
ERRORS = (*BODY_ERRORS, Forbidden, NotSupported)


class InitTransfer(BaseModel):
    """Who to meet; what is in it is between vLLM's transfer backend and the trainer."""

    init_info: dict[str, Any]


class UpdateWeights(BaseModel):
    """Which tensors come over the process group now."""

    update_info: dict[str, Any] | list[dict[str, Any]]


class FinishUpdate(BaseModel):
    """What the received weights are called; `transfer-1`, `transfer-2`, … by default."""

    weight_version: WeightVersion | None = None


@router.get("/get_world_size", **described("Ranks of the engine in a trainer's process group", errors=ERRORS))
async def get_world_size(request: Request) -> JSONResponse:
    """Return how many ranks the trainer has to count besides its own. Needs an admin key, as all of these do."""
    return JSONResponse({"world_size": _receiver(request).world_size})


@router.post("/init_weight_transfer_engine", **described("Meet a trainer", body=InitTransfer, errors=ERRORS))
async def post_init(request: Request) -> JSONResponse:
    """Join the trainer's process group; answers when all its ranks are there."""
    receiver = _receiver(request)
    await receiver.init((await read(request, InitTransfer)).init_info)
    return _done("the process group stands")


@router.post("/start_weight_update", **described("Open an update", errors=ERRORS))
async def post_start(request: Request) -> JSONResponse:
    """Finish work in flight on the old weights, then score nothing until the update is finished."""
    await _receiver(request).start()
    return _done("send the weights")


@router.post("/update_weights", **described("Receive tensors", body=UpdateWeights, errors=ERRORS))
async def post_update(request: Request) -> JSONResponse:
    """Receive the named tensors over the process group; a failure returns to the weights before."""
    receiver = _receiver(request)
    await receiver.update((await read(request, UpdateWeights)).update_info)
    return _done("received")


@router.post("/finish_weight_update", **described("Serve what was received", errors=ERRORS))
async def post_finish(request: Request) -> JSONResponse:
    """Try the received weights and serve them, the prefix cache cleared, as the body's `weight_version`."""
    receiver = _receiver(request)
    headers = request.headers  # the body may be left out altogether
    sent = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
    body = await read(request, FinishUpdate) if sent else FinishUpdate()
    version = await receiver.finish(body.weight_version)
    return JSONResponse({"message": "these weights serve", "weight_version": version})


@router.post("/pause", **described("Nothing: an update pauses by itself", errors=ERRORS))
async def post_pause(request: Request) -> JSONResponse:
    """Answer a client that pauses around an update; what protects it here is /start_weight_update."""
    _receiver(request)
    return _done("scoring pauses from /start_weight_update to /finish_weight_update")


@router.post("/resume", **described("Nothing: an update resumes by itself", errors=ERRORS))
async def post_resume(request: Request) -> JSONResponse:
    """Answer a client that pauses around an update."""
    _receiver(request)
    return _done("scoring resumed with /finish_weight_update")


@router.post("/reset_prefix_cache", **described("Nothing: an update clears the cache itself", errors=ERRORS))
async def post_reset(request: Request) -> JSONResponse:
    """Answer a client that clears the cache after an update; no entry of older weights is ever left in it."""
    _receiver(request)
    return _done("every update clears the cache")


def _receiver(request: Request) -> WeightReceiver:
    """Raise `Unauthorized` or `Forbidden` without an admin key, `NotSupported` on engines that cannot."""
    transfer = admin_runtime_of(request).transfer
    if transfer is None:
        raise NotSupported(
            "this engine receives no weights over a process group; use PUT /policy/weights, or serve with "
            "--engine vllm --vllm.weight_transfer_config '{backend: nccl}'"
        )
    return transfer


def _done(message: str) -> JSONResponse:
    return JSONResponse({"message": message})
