"""GET /policy, PUT /policy/weights, POST /policy/load: which weights serve, and their replacement."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import Response

from opera_client.errors import BodyTooLarge, DeadlineExceeded, InvalidRequest, OperaError, Unavailable
from opera_client.wire import PolicyInfo, PolicyLoadRequest, PolicyLoadResult, WeightVersion
from opera_service.api.answering import lifecycle_of, read, service_of
from opera_service.api.authenticator import Authenticator
from opera_service.api.body import dump
from opera_service.api.describing import BODY_ERRORS, COMMON_ERRORS, LOAD_ERRORS, described
from opera_service.engines.adapter import is_adapter
from opera_service.pipelines.service import Service
from opera_service.server.lifecycle import Lifecycle

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
    return await answered(await service_of(request).weights.info())


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
    service, lifecycle = admitted(request)
    headers = _headers(request)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > lifecycle.settings.max_weights_bytes:
        raise BodyTooLarge(
            f"the weights are larger than the limit of {lifecycle.settings.max_weights_bytes} bytes;"
            " see --max-weights-gb"
        )
    with counted(service), service.weights.turn():
        async with lifecycle.spool.receive(request.stream(), sha256=headers.sha256) as received:
            result = await lifecycle.loader.load(
                received.folder,
                headers.weight_version,
                revision=received.revision,
                canary_logprob=headers.canary_logprob,
            )
            if result.changed:
                await lifecycle.spool.keep(received)
    return await answered(result)


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
    admitted(request)
    return await answered(await load_from_disk(request, await read(request, PolicyLoadRequest)))


async def load_from_disk(request: Request, body: PolicyLoadRequest) -> PolicyLoadResult:
    """Serve what `body` names. The file that serves under an adapter stays where it is."""
    service, lifecycle = admitted(request)
    with counted(service), service.weights.turn():
        source = await service.in_thread(lifecycle.roots.find, body.path)
        result = await lifecycle.loader.load(source, body.weight_version, canary_logprob=body.canary_logprob)
        if result.changed and not is_adapter(source):
            await lifecycle.spool.keep(None)
    return result


def admitted(request: Request) -> tuple[Service, Lifecycle]:
    """Return what a request for other weights works on. Raises `Forbidden`, `Unavailable`."""
    authenticator: Authenticator = request.app.state.authenticator
    authenticator.check_admin(request)
    lifecycle = lifecycle_of(request)
    if lifecycle.draining:
        raise Unavailable("the service is shutting down; it takes no weights any more")
    return lifecycle.service, lifecycle


def _headers(request: Request) -> PushHeaders:
    names = [field.alias or "" for field in PushHeaders.model_fields.values()]
    given = {name: request.headers[name] for name in names if name in request.headers}
    try:
        return PushHeaders.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidRequest(f"header: {first['msg']}", field=str(first["loc"][0])) from None


@contextmanager
def counted(service: Service) -> Iterator[None]:
    """Count how a load ends."""
    try:
        yield
    except OperaError as error:
        service.metrics.policy_load(error.code)
        raise
    service.metrics.policy_load("ok")


async def answered(answer: BaseModel) -> Response:
    """Return a small answer."""
    return Response(await dump(answer, large=False), media_type="application/json")
