"""What is wrong with a field, in words for whoever sent it: pydantic's own speak of Python's types."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_WORDS = {
    "missing": "is missing; give it",
    "model_type": "must be a JSON object",
    "model_attributes_type": "must be a JSON object",
    "dict_type": "must be a JSON object",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "extra_forbidden": "is no field here; mend its name or leave it out",
    "literal_error": "must be {expected}",
}


def no_field(name: object, known: Iterable[str]) -> str:
    """Return what is wrong with a field that is none; it names the known one that is spelled most like it."""
    like = get_close_matches(str(name)[:100], list(known), n=1)
    return f"is no field here; did you mean `{like[0]}`?" if like else _WORDS["extra_forbidden"]


def _fields_at(model: type[BaseModel], path: Sequence[object]) -> list[str]:
    """Return the fields of the model to which pydantic's path leads from `model` on."""
    for step in path:
        field = model.model_fields.get(str(step))  # not for places in lists and parts of unions
        model = (field and _model_in(field.annotation)) or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)


def problem_of(detail: ErrorDetails, model: type[BaseModel] | None = None) -> str:
    """Return one problem that pydantic found as words that stand behind the field's path.

    With the `model` that was to be read, a field that is none is told which one is spelled like it.
    """
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden" and model is not None:
        *parents, name = detail["loc"]
        return no_field(name, _fields_at(model, parents))
    # A text that was made ready before it was checked is told of as a list by pydantic.
    what = "characters" if kind.startswith("string_") or isinstance(detail.get("input"), str) else "elements"
    if kind in ("too_long", "string_too_long"):
        return f"has more than {context['max_length']} {what}"
    if kind in ("too_short", "string_too_short"):
        least = context["min_length"]
        return "is empty; give at least one" if least == 1 else f"has fewer than {least} {what}"
    words = _WORDS.get(kind)
    if words is None:
        return detail["msg"].removeprefix("Value error, ")
    whole = (value for value in context.items() if isinstance(value[1], float) and value[1].is_integer())
    return words.format(**{**context, **{name: int(value) for name, value in whole}})


_UNION = ("function-", "list[", "str")
"""How pydantic names the parts of a union, which says nothing to a caller."""


def first_problem(error: ValidationError, kind: type[BaseModel]) -> tuple[str, str]:
    """Return path and words of the first wrong field of a `kind`, and how many more are wrong.

    What fits one part of a union up to a field of its own is told about that field: a prompt that is a list of
    messages is not told that it is no text.
    """
    details = error.errors(include_url=False, include_input=False)
    paths = [tuple(part for part in one["loc"] if not str(part).startswith(_UNION)) for one in details]
    chosen = max((path for path in paths if path[: len(paths[0])] == paths[0]), key=len)
    about = [one for one, path in zip(details, paths, strict=True) if path == chosen]
    said = "; or ".join(dict.fromkeys(problem_of(one, kind) for one in about))
    others = len({path for path in paths if path != chosen[: len(path)]})
    return ".".join(map(str, chosen)), said + (f" (and {others} more)" if others else "")
