"""From what a caller hands in to wire models; what does not fit is an `InvalidRequest` that names the field."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError

from opera_client.errors import InvalidRequest
from opera_client.wire import (
    ExpandItem,
    ExpandRequest,
    Group,
    RankItem,
    RankRequest,
    RewardRequest,
    ScoreItem,
    ScoreRequest,
    first_problem,
)

Item = TypeVar("Item", Group, RankItem, ExpandItem, ScoreItem)
Sent = TypeVar("Sent", bound=BaseModel)
Request = TypeVar("Request", RewardRequest, RankRequest, ExpandRequest, ScoreRequest)
Model = TypeVar("Model", bound=BaseModel)


def plain_json(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return `given` as it will travel.

    Raises:
        InvalidRequest: it holds NaN, an infinity or something that is not JSON; the field is that of the value.
    """
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(given), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        if str(error).startswith("Out of range"):
            raise InvalidRequest("must be a finite number", field=next(_not_finite(given, where))) from None
        raise InvalidRequest(f"cannot travel as JSON: {error}", field=where) from None
    return plain


def _not_finite(given: object, where: str) -> Iterator[str]:
    """Yield the paths of NaN and infinities in the order of JSON; `where` is the path of `given`."""
    if isinstance(given, float) and not math.isfinite(given):
        yield where
    elif isinstance(given, Mapping):
        for key, value in given.items():
            yield from _not_finite(value, f"{where}.{key}")
    elif isinstance(given, list | tuple):
        for at, value in enumerate(given):
            yield from _not_finite(value, f"{where}.{at}")


def travelling(body: BaseModel) -> str:
    """Return a request as JSON.

    Raises:
        InvalidRequest: it holds text that UTF-8 cannot carry.
    """
    try:
        return body.model_dump_json(exclude_none=True)
    except PydanticSerializationError as error:
        raise InvalidRequest(f"holds text that cannot travel: {str(error).partition(': ')[2]}") from None


def items_of(
    kind: type[Item], given: Iterable[Item | Mapping[str, Any]], where: str, *, id_field: str
) -> list[Item]:
    """Return typed items; one without an id gets its position, so that chunks keep the caller's names.

    Raises:
        InvalidRequest: with a field such as `groups.3.reference`.
    """
    if not isinstance(given, Iterable) or isinstance(given, str | bytes | Mapping):
        raise InvalidRequest(f"must be a list of them, not {type(given).__name__}", field=where)
    items = [item_of(kind, item, f"{where}.{position}") for position, item in enumerate(given)]
    if not items:
        raise InvalidRequest("is empty; give at least one", field=where)
    return [
        item if getattr(item, id_field) is not None else item.model_copy(update={id_field: str(position)})
        for position, item in enumerate(items)
    ]


def item_of(kind: type[Sent], given: Sent | Mapping[str, Any], where: str) -> Sent:
    """Return one typed item.

    Raises:
        InvalidRequest: it does not fit, or holds text that UTF-8 cannot carry.
    """
    item = given if isinstance(given, kind) else validated(kind, given, where)
    try:
        item.model_dump_json()
    except PydanticSerializationError as error:
        reason = str(error).partition(": ")[2]
        raise InvalidRequest(f"holds text that cannot travel: {reason}", field=where or None) from None
    return item


def request_of(kind: type[Request], fields: Mapping[str, Any]) -> Request:
    """Return the request of one chunk; its items are validated already."""
    return validated(kind, fields, "")


def validated(kind: type[Model], given: object, where: str) -> Model:
    """Return `given` as a wire model.

    Raises:
        InvalidRequest: naming the first field that does not fit, below `where`.
    """
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        field, said = first_problem(error, kind)
        path = ".".join(part for part in (where, field) if part)
        raise InvalidRequest(said, field=path or None) from None
