"""GET /policy, PUT /policy/weights, POST /policy/load: which weights serve, and their replacement."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import Response

from opera_client.errors import BodyTooLarge, DeadlineExceeded, InvalidRequest
from opera_client.wire import PolicyInfo, PolicyLoadRequest, PolicyLoadResult, WeightVersion, problem_of
from opera_service.api.answering import read
from opera_service.api.body import small
from opera_service.api.describing import BODY_ERRORS, COMMON_ERRORS, LOAD_ERRORS, described
from opera_service.api.state import admin_runtime_of, runtime_of, state_of

router = APIRouter(tags=["policy"])

Sha256 = Annotated[str, Field(pattern="^[0-9a-fA-F]{64}$")]


class PushHeaders(BaseModel):
    """The headers of PUT /policy/weights."""

    model_config = ConfigDict(allow_inf_nan=False)
    weight_version: WeightVersion = Field(alias="X-Weight-Version")
    sha256: Sha256 | None = Field(None, alias="X-Checksum-Sha256")
    canary_logprob: float | None = Field(None, alias="X-Canary-Logprob")


@router.get("/policy", **described("The weights that serve", answer=PolicyInfo, errors=COMMON_ERRORS))
async def get_policy(request: Request) -> Response:
    """Return name, revision, weight version, since when, and the canary: a text, its ids and log-probability.

    The canary lets a trainer compare: `-model(ids, labels=ids).loss` is its own number.
    """
    return await small(await runtime_of(request).weights.info())


@router.put(
    "/policy/weights",
    **described(
        "Replace the weights by pushed ones",
        answer=PolicyLoadResult,
        headers=PushHeaders,
        errors=(*LOAD_ERRORS, BodyTooLarge, DeadlineExceeded),
    ),
)
async def put_weights(request: Request) -> Response:
    """Take a safetensors file as the body, check all of it, and serve it as `X-Weight-Version`.

    Work in flight ends on the old weights, nothing is scored on a mixture. Whatever is wrong (a missing tensor, a
    shape, NaN, a canary unlike `X-Canary-Logprob`), the old weights serve on. Needs an admin key. The same bytes
    under the same version again change nothing.
    """
    updates, limit = admin_runtime_of(request).updates, state_of(request).options.max_weights_bytes
    headers = _headers(request)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise BodyTooLarge(f"the weights are larger than the limit of {limit} bytes; see --max-weights-gb")
    result = await updates.from_upload(
        request.stream(),
        headers.weight_version,
        sha256=headers.sha256,
        canary_logprob=headers.canary_logprob,
    )
    return await small(result)


@router.post(
    "/policy/load",
    **described(
        "Replace the weights by ones on the service's disk",
        body=PolicyLoadRequest,
        answer=PolicyLoadResult,
        ask={"path": "/checkpoints/step-120", "weight_version": "120"},
        errors=(*BODY_ERRORS, *LOAD_ERRORS),
    ),
)
async def post_load(request: Request) -> Response:
    """Read a safetensors file, a checkpoint's or a LoRA adapter's folder below a `--policy-root`.

    Else like PUT /policy/weights.
    """
    updates = admin_runtime_of(request).updates
    body = await read(request, PolicyLoadRequest)
    return await small(await updates.from_disk(body.path, body.weight_version, canary_logprob=body.canary_logprob))


def _headers(request: Request) -> PushHeaders:
    names = [field.alias or "" for field in PushHeaders.model_fields.values()]
    given = {name: request.headers[name] for name in names if name in request.headers}
    try:
        return PushHeaders.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidRequest(f"header: {problem_of(first)}", field=str(first["loc"][0])) from None
