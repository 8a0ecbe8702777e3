"""Request bodies in, answers out: size limit, JSON, validation with field paths, all off the loop when large.

It knows pydantic models and bytes; no route.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, from_json

from opera_client.errors import BodyTooLarge, DeadlineExceeded, InvalidRequest, MalformedBody

Model = TypeVar("Model", bound=BaseModel)

PATIENCE_S = 120.0
"""How long a body may take to arrive: a sender that dawdles must not hold a connection for ever."""
SMALL = 16_384
"""Bytes up to which parsing on the event loop costs less than a trip to a thread."""


async def read_body(request: Request, model: type[Model], *, limit: int) -> Model:
    """Return the request's body as `model`.

    Raises `BodyTooLarge` as soon as `limit` bytes are exceeded, `DeadlineExceeded` when it does not come,
    `MalformedBody` for anything that is not UTF-8 JSON (NaN and Infinity are not), `InvalidRequest` naming the
    first wrong field.
    """
    try:
        async with asyncio.timeout(PATIENCE_S):
            chunks, size = await _received(request, limit)
    except TimeoutError:
        raise DeadlineExceeded(f"the body was not all there after {PATIENCE_S:g} s; send it again") from None
    if size > limit:
        raise BodyTooLarge(
            f"the body is larger than the limit of {limit} bytes (--max-body-mb); "
            "send fewer groups or items at once"
        )
    data = b"".join(chunks)
    if len(data) <= SMALL:
        return parse(data, model)
    return await asyncio.to_thread(parse, data, model)


async def _received(request: Request, limit: int) -> tuple[list[bytes], int]:
    """Return what came, up to `limit` bytes of it, and how many bytes that was."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
        elif size > 4 * limit:
            break  # until here the rest is read and dropped: a client cut off while it sends misses the answer
    return chunks, size


def parse(data: bytes, model: type[Model]) -> Model:
    """Return `data` as `model`; raises like `read_body`."""
    if not data:
        raise MalformedBody("the body is empty; send a JSON object")
    try:
        value = from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise MalformedBody(f"the body is not UTF-8 JSON: {error}; NaN and Infinity must be null") from None
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _invalid(value, error) from None


def _invalid(value: object, error: ValidationError) -> InvalidRequest:
    """Name the first wrong field, with all that was said about it."""
    details = error.errors(include_url=False)
    fields = [field_path(value, detail) for detail in details]
    # A value that fits one branch of a union up to a field of its own is told about that field.
    field = next((deeper for deeper in fields if deeper.startswith(f"{fields[0]}.")), fields[0])
    about = [detail for detail, name in zip(details, fields, strict=True) if name == field]
    message = "; or ".join(dict.fromkeys(detail["msg"].removeprefix("Value error, ") for detail in about))
    if about[0]["type"] == "extra_forbidden":
        message = "unknown field; leave it out (see /docs for the accepted ones)"
    others = len({name for name in fields if not field.startswith(name)})
    more = f" ({others} more field{'s are' if others > 1 else ' is'} wrong)" if others else ""
    return InvalidRequest(f"{message}{more}", field=field or None)


def field_path(value: object, detail: ErrorDetails) -> str:
    """Return `groups.0.reference` for a pydantic error, without the tags it adds for unions and models."""
    path: list[str] = []
    location = detail["loc"]
    for depth, part in enumerate(location):
        names_a_field = _has(value, part) or (detail["type"] == "missing" and depth == len(location) - 1)
        if names_a_field:
            path.append(str(part))
            value = value[part] if _has(value, part) else None  # type: ignore[index]
    return ".".join(path)


def _has(value: object, part: int | str) -> bool:
    if isinstance(part, int):
        return isinstance(value, list)
    return isinstance(value, Mapping) and part in value


async def dump(answer: BaseModel, *, large: bool) -> bytes:
    """Return `answer` as JSON."""
    if large:
        return await asyncio.to_thread(_dump, answer)
    return _dump(answer)


def _dump(answer: BaseModel) -> bytes:
    return answer.__pydantic_serializer__.to_json(answer)
