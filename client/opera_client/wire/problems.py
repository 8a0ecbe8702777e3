"""What is wrong with a field, in words for whoever sent it: pydantic's own speak of Python's types."""

from __future__ import annotations

from pydantic import ValidationError
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
    "too_long": "has more than {max_length} elements",
    "string_too_long": "has more than {max_length} characters",
    "extra_forbidden": "is no field here; mend its name or leave it out",
    "literal_error": "must be {expected}",
}


def problem_of(detail: ErrorDetails) -> str:
    """Return one problem that pydantic found as words that stand behind the field's path."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in ("too_short", "string_too_short"):
        least = context["min_length"]
        what = "elements" if kind == "too_short" else "characters"
        return "is empty; give at least one" if least == 1 else f"has fewer than {least} {what}"
    words = _WORDS.get(kind)
    if words is None:
        return detail["msg"].removeprefix("Value error, ")
    whole = (value for value in context.items() if isinstance(value[1], float) and value[1].is_integer())
    return words.format(**{**context, **{name: int(value) for name, value in whole}})


_UNION = ("function-", "list[", "str")
"""How pydantic names the parts of a union, which says nothing to a caller."""


def first_problem(error: ValidationError) -> tuple[str, str]:
    """Return path and words of the first wrong field, and how many more are wrong.

    What fits one part of a union up to a field of its own is told about that field: a prompt that is a list of
    messages is not told that it is no text.
    """
    details = error.errors(include_url=False, include_input=False)
    paths = [tuple(part for part in one["loc"] if not str(part).startswith(_UNION)) for one in details]
    chosen = max((path for path in paths if path[: len(paths[0])] == paths[0]), key=len)
    about = [one for one, path in zip(details, paths, strict=True) if path == chosen]
    said = "; or ".join(dict.fromkeys(map(problem_of, about)))
    others = len({path for path in paths if path != chosen[: len(path)]})
    return ".".join(map(str, chosen)), said + (f" (and {others} more)" if others else "")
