"""POST /v1/load_lora_adapter, /v1/unload_lora_adapter: adapters by name, under vLLM's own names for it.

Sugar over the policy: an adapter's name is its weight version, and one serves at a time.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from opera_client.errors import WeightVersionMismatch
from opera_client.wire import PolicyLoadResult, WeightVersion
from opera_client.wire._base import Request as Body
from opera_service.api.answering import read
from opera_service.api.body import small
from opera_service.api.describing import BODY_ERRORS, LOAD_ERRORS, described
from opera_service.api.state import admin_runtime_of

router = APIRouter(tags=["policy"])


class LoadAdapter(Body):
    """A LoRA adapter on the service's disk."""

    lora_name: WeightVersion
    lora_path: str = Field(min_length=1)
    """Absolute path of the folder that PEFT wrote."""
    canary_logprob: float | None = None


class UnloadAdapter(Body):
    """The adapter that serves."""

    lora_name: WeightVersion


@router.post(
    "/v1/load_lora_adapter",
    **described(
        "Serve a LoRA adapter on top of the loaded weights",
        body=LoadAdapter,
        answer=PolicyLoadResult,
        ask={"lora_name": "step-120", "lora_path": "/adapters/step-120"},
        errors=(*BODY_ERRORS, *LOAD_ERRORS),
    ),
)
async def post_load_adapter(request: Request) -> Response:
    """Like POST /policy/load of the adapter's folder, with its name as the weight version."""
    updates = admin_runtime_of(request).updates
    body = await read(request, LoadAdapter)
    return await small(await updates.from_disk(body.lora_path, body.lora_name, canary_logprob=body.canary_logprob))


@router.post(
    "/v1/unload_lora_adapter",
    **described(
        "Serve the weights under an adapter again",
        body=UnloadAdapter,
        answer=PolicyLoadResult,
        ask={"lora_name": "step-120"},
        errors=(*BODY_ERRORS, *LOAD_ERRORS, WeightVersionMismatch),
    ),
)
async def post_unload_adapter(request: Request) -> Response:
    """Return to the last whole checkpoint and its weight version. 409 when another adapter, or none, serves."""
    updates = admin_runtime_of(request).updates
    body = await read(request, UnloadAdapter)
    return await small(await updates.drop_adapter(body.lora_name))
