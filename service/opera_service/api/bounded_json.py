"""JSON bodies become request models piece by piece, so that no body can hold the interpreter or fill the memory.

A body is first cut along its model's fields without building what is inside (msgspec's `Raw`), then each piece is
parsed and validated by itself: other threads run in between, and the first wrong field ends the work. What a body
may hold is bounded before anything is built from it. It knows pydantic models and bytes; no route, no reward.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar, get_args, get_origin

import msgspec
from msgspec import UNSET, Raw, UnsetType
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, from_json

from opera_client.errors import BodyTooLarge, InvalidRequest, MalformedBody, TooManyTokens
from opera_client.wire import HALF_CHARACTER, no_field, problem_of

Model = TypeVar("Model", bound=BaseModel)

MAX_CONTAINERS = 200_000
"""Objects and arrays in one body. 4,096 trajectories with 20 turns each have less than half of that."""
MAX_ELEMENTS = 1_000_000
"""Elements of one field, such as token ids; commas in texts count where the field is an object or a list."""
MAX_CONFIG_BYTES = 65_536
"""A reward's configuration: the longest that anybody needs has a few kilobytes."""
MAX_MESSAGE = 500
"""Characters of an error's message: input is never echoed at length."""

_OUTSIDE_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"|([\[{])', re.DOTALL)
# Escaped backslashes and whole pairs are passed over.
_ESCAPES = re.compile(rb"\\\\|\\u[dD][89abAB]..\\u[dD][c-fC-F]..|(\\u[dD][89a-fA-F]..)")
_HALF = b"\\u" + f"{ord(HALF_CHARACTER):04x}".encode()
_UNKNOWN_FIELD = re.compile(r"unknown field `(.*?)`(?: - at `\$|$)", re.DOTALL)
_PLACE = re.compile(r"at `\$\[(\d+)\]`$")


def parse(data: bytes | bytearray, model: type[Model]) -> Model:
    """Return `data` as `model`.

    Raises:
        MalformedBody: it is not UTF-8 JSON (NaN and Infinity are not), or nested too deeply.
        InvalidRequest: names the first wrong field.
        BodyTooLarge, TooManyTokens: it holds more than any request needs.
    """
    if not data:
        raise MalformedBody("the body is empty; send a JSON object")
    _check_containers(data)
    if b"\\" in data and (b"\\ud" in data or b"\\uD" in data):
        data = _mended(data)
    try:
        return _build(_fields(data, _shape(model), ""), model, "")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedBody(
            f"the body is not UTF-8 JSON: {_short(error)}; NaN and Infinity must be null"
        ) from None


def _build(found: msgspec.Struct, model: type[Model], where: str) -> Model:
    """Return an object that was cut into its fields as `model`; `where` is its path with a dot, or empty."""
    values = ((name, getattr(found, at)) for at, name in _names(model).items())
    given = {name: raw for name, raw in values if raw is not UNSET}
    value = {name: _value(raw, _item_model(model, name), where + name) for name, raw in given.items()}
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _invalid(value, error, model, where) from None


def _value(raw: Raw, item: type[BaseModel] | None, where: str) -> Any:
    """Return one field's value; a list of models is cut up to its first wrong element, then built."""
    seen = memoryview(raw)  # a list of models may be the whole body: it is not copied
    if item is not None and seen[0] == ord("["):
        cut = _fields(seen, list[_shape(item)], f"{where}.")  # type: ignore[misc]
        return [_build(one, item, f"{where}.{index}.") for index, one in enumerate(cut)]
    text = bytes(seen)
    if where.endswith("config") and len(text) > MAX_CONFIG_BYTES:
        raise InvalidRequest(f"the configuration is longer than {MAX_CONFIG_BYTES} bytes", field=where)
    if text[:1] in b"[{" and text.count(b",") >= MAX_ELEMENTS:
        raise TooManyTokens(f"it has more than {MAX_ELEMENTS} elements; send less at once", field=where)
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise _malformed(error, where) from None


def _fields(data: bytes | bytearray | memoryview, shape: Any, where: str) -> Any:
    """Return `data` as `shape`: one object, or a list of them, its fields unparsed."""
    try:
        return msgspec.json.decode(data, type=shape)
    except msgspec.ValidationError as error:
        msgspec.json.decode(
            data, type=Raw
        )  # the first unknown key ends the reading: JSON broken behind it is said first
        said = str(error)  # it quotes the unknown key, which may be all of the body
        place = _PLACE.search(said, max(len(said) - 100, 0))
        path = f"{where}{place.group(1)}." if place else where
        if unknown := _UNKNOWN_FIELD.search(said if len(said) < 400 else f"{said[:200]}`"):
            name = unknown.group(1)[:100]
            known = msgspec.structs.fields(next(iter(get_args(shape)), shape))
            message = no_field(name, (one.encode_name for one in known))
            raise InvalidRequest(message, field=path + name) from None
        raise InvalidRequest("must be a JSON object", field=path.removesuffix(".") or None) from None


def _mended(data: bytes | bytearray) -> bytes:
    """Return JSON with halves of surrogate pairs replaced: the text that holds one is refused later, by itself."""
    return _ESCAPES.sub(lambda found: found[0] if found[1] is None else _HALF, data)


def _check_containers(data: bytes | bytearray) -> None:
    """Count objects and arrays. Braces inside texts (LaTeX) do not count, and are only told apart where many."""
    if data.count(b"{") + data.count(b"[") <= MAX_CONTAINERS:
        return
    found = 0
    for match in _OUTSIDE_STRINGS.finditer(data):
        found += match.lastindex is not None
        if found > MAX_CONTAINERS:
            raise BodyTooLarge(
                f"the body holds more than {MAX_CONTAINERS} arrays and objects; send fewer groups or items at once"
            )


@cache
def _names(model: type[BaseModel]) -> dict[str, str]:
    """Return the shape's attribute of every field, with the field's name in JSON."""
    fields = model.model_fields.items()
    return {f"f{at}": field.validation_alias if isinstance(field.validation_alias, str) else name
            for at, (name, field) in enumerate(fields)}  # fmt: skip


@cache
def _shape(model: type[BaseModel]) -> type[msgspec.Struct]:
    """Return a struct with the model's fields, all optional and unparsed."""
    return msgspec.defstruct(
        model.__name__,
        [(at, Raw | UnsetType, UNSET) for at in _names(model)],
        rename=_names(model),
        forbid_unknown_fields=model.model_config.get("extra") == "forbid",
    )


@cache
def _item_model(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """Return what the list `name` is made of, if its elements are models."""
    at = next(at for at, alias in _names(model).items() if alias == name)
    annotation = list(model.model_fields.values())[int(at[1:])].annotation
    for kind in (annotation, *get_args(annotation)):
        if get_origin(kind) is list:
            (item,) = get_args(kind)
            if isinstance(item, type) and issubclass(item, BaseModel):
                return item
    return None


def _malformed(error: Exception, field: str | None = None) -> MalformedBody:
    return MalformedBody(
        f"the body is not UTF-8 JSON: {_short(error)}; NaN and Infinity must be null", field=field
    )


def _invalid(
    value: Mapping[str, Any], error: ValidationError, model: type[BaseModel], where: str
) -> InvalidRequest:
    """Name the first wrong field, with all that was said about it."""
    details = error.errors(include_url=False, include_input=False)
    fields = [_field_path(value, detail) for detail in details]
    # A value that fits one branch of a union up to a field of its own is told about that field.
    field = next((deeper for deeper in fields if deeper.startswith(f"{fields[0]}.")), fields[0])
    about = [detail for detail, name in zip(details, fields, strict=True) if name == field]
    message = "; or ".join(dict.fromkeys(problem_of(detail, model) for detail in about))
    others = len({name for name in fields if not field.startswith(name)})
    more = f" ({others} more field{'s are' if others > 1 else ' is'} wrong)" if others else ""
    path = (where + field).removesuffix(".")
    return InvalidRequest(f"{_short(message)}{more}", field=path or None)


def _field_path(value: object, detail: ErrorDetails) -> str:
    """Return `prompt.0.content` for a pydantic error, without the tags it adds for unions and models."""
    path: list[str] = []
    location = detail["loc"]
    for depth, part in enumerate(location):
        names_a_field = _has(value, part) or (detail["type"] == "missing" and depth == len(location) - 1)
        if names_a_field:
            path.append(str(part)[:100])
            value = value[part] if _has(value, part) else None  # type: ignore[index]
    return ".".join(path)


def _has(value: object, part: int | str) -> bool:
    if isinstance(part, int):
        return isinstance(value, list)
    return isinstance(value, Mapping) and part in value


def _short(message: object) -> str:
    text = str(message)
    return text if len(text) <= MAX_MESSAGE else f"{text[:MAX_MESSAGE]} …"
