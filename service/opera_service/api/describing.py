"""What /docs shows of a route: its models, examples and every error it can answer with.

Bodies are parsed by hand (off the loop, with limits), so their schemas are added to the OpenAPI document here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from opera_client.errors import (
    BodyTooLarge,
    CanaryMismatch,
    DeadlineExceeded,
    EngineFailed,
    EngineOutOfMemory,
    Forbidden,
    GroupIncomplete,
    IdempotencyKeyReused,
    InternalError,
    InvalidRequest,
    InvalidWeights,
    ItemError,
    MalformedBody,
    MemberConflict,
    NotSupported,
    OperaError,
    Overloaded,
    PolicyBusy,
    TooManyTokens,
    TooManyTrajectories,
    Unauthorized,
    Unavailable,
    WeightVersionMismatch,
    WeightVersionTaken,
    error_types,
)
from opera_client.wire import ErrorBody

COMMON_ERRORS = (Unauthorized, Unavailable, InternalError)
BODY_ERRORS = (*COMMON_ERRORS, MalformedBody, InvalidRequest, BodyTooLarge, DeadlineExceeded)
SCORING_ERRORS = (
    *BODY_ERRORS, TooManyTokens, WeightVersionMismatch, Overloaded, EngineOutOfMemory, EngineFailed,
)  # fmt: skip
MEMBER_ERRORS = (*SCORING_ERRORS, TooManyTrajectories, MemberConflict)
GROUP_ERRORS = (*MEMBER_ERRORS, GroupIncomplete)
LOAD_ERRORS = (
    *COMMON_ERRORS, InvalidRequest, Forbidden, InvalidWeights, CanaryMismatch, WeightVersionTaken, PolicyBusy,
    EngineOutOfMemory, NotSupported,
)  # fmt: skip

_KEYS = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_DEADLINE = {
    "name": "X-Request-Deadline",
    "in": "header",
    "required": False,
    "description": "Unix seconds after which the answer is of no use; unscored work is dropped then.",
    "schema": {"type": "number"},
}
_IDEMPOTENCY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key with the same body is answered once, and again from memory (on the same weights; "
    "then with `Idempotency-Replayed: true`).",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
_REF = "#/components/schemas/{model}"
_BODIES: list[type[BaseModel]] = []


def described(
    summary: str,
    *,
    body: type[BaseModel] | None = None,
    answer: type[BaseModel] | None = None,
    ask: Any = None,
    get: Any = None,
    query: type[BaseModel] | None = None,
    headers: type[BaseModel] | None = None,
    errors: tuple[type[OperaError], ...] = (),
) -> dict[str, Any]:
    """Return the keyword arguments of a route: `ask` and `get` are example body and answer.

    A route with `headers` and no body model takes bytes.
    """
    responses: dict[int | str, dict[str, Any]] = {200: {"description": "Done"}}
    if answer is not None:
        responses[200]["model"] = answer
    if get is not None:
        responses[200]["content"] = {"application/json": {"example": get}}
    responses.update(_error_responses(errors))
    extra: dict[str, Any] = {}
    if body is not None:
        _BODIES.append(body)
        content: dict[str, Any] = {"schema": {"$ref": _REF.format(model=body.__name__)}}
        if ask is not None:
            content["example"] = ask
        extra = {"requestBody": {"required": True, "content": {"application/json": content}}}
    if query is not None:
        extra["parameters"] = _parameters(query, "query")
    if headers is not None:
        octets = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
        extra["parameters"] = _parameters(headers, "header")
        extra["requestBody"] = {"required": True, "content": octets}
    return {"summary": summary, "responses": responses, "openapi_extra": extra, "response_model": None}


def _parameters(fields: type[BaseModel], place: str) -> list[dict[str, Any]]:
    schema = fields.model_json_schema()
    return [
        {"name": name, "in": place, "required": name in schema.get("required", ()), "schema": field}
        for name, field in schema["properties"].items()
    ]


def _error_responses(errors: tuple[type[OperaError], ...]) -> dict[int | str, dict[str, Any]]:
    by_status: dict[int, list[type[OperaError]]] = {}
    for kind in errors:
        by_status.setdefault(kind.status, []).append(kind)
    return {
        status: {
            "model": ErrorBody,
            "description": "; ".join(f"`{kind.code}`: {_first_sentence(kind)}" for kind in kinds),
            "content": {"application/json": {"example": _example(kinds[0])}},
        }
        for status, kinds in sorted(by_status.items())
    }


def _example(kind: type[OperaError]) -> Mapping[str, Any]:
    return {"error": kind(_first_sentence(kind), request_id="6f1c9a2e").body()}


def _first_sentence(kind: type[OperaError]) -> str:
    return (kind.__doc__ or kind.code).strip().splitlines()[0]


def install_openapi(app: FastAPI) -> None:
    """Make `app.openapi()` complete: request bodies and the table of error codes."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )
            bodies = [(model, "validation") for model in dict.fromkeys(_BODIES)]
            _, definitions = models_json_schema(bodies, ref_template=_REF)  # type: ignore[arg-type]
            components = schema.setdefault("components", {})
            components.setdefault("schemas", {}).update(definitions["$defs"])
            components["securitySchemes"] = _KEYS
            schema["security"] = [{}, *({name: []} for name in _KEYS)]
            for operation in (one for path in schema["paths"].values() for one in path.values()):
                if str(Overloaded.status) in operation["responses"]:
                    operation.setdefault("parameters", []).append(_DEADLINE)
                if f"`{IdempotencyKeyReused.code}`" in str(operation["responses"].get("422")):
                    operation.setdefault("parameters", []).append(_IDEMPOTENCY)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def error_table() -> str:
    """Return every error code as a Markdown table."""
    lines = ["| code | HTTP | retryable | where | meaning |", "|---|---|---|---|---|"]
    for code, kind in sorted(error_types().items(), key=lambda pair: (pair[1].status, pair[0])):
        where = "an item" if issubclass(kind, ItemError) else "the request"
        retry = "yes" if kind.retryable else "no"
        lines.append(f"| `{code}` | {kind.status} | {retry} | {where} | {_first_sentence(kind)} |")
    return "\n".join(lines)
