"""The known good answer as trainers and files hold it: text, a number, or a list of texts. One rule for all.

What is no answer (an object, bytes, NaN) is refused, so that its spelling in Python is never taken for one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import BeforeValidator

from opera_client.wire._base import mended

MOST_REFERENCES = 8


def reference_of(given: object) -> str | list[str] | None:
    """Return text, or a list of 1 to 8 texts which are alternatives. Raises ValueError that says what to give.

    Numbers become their text, arrays of numpy lists. None stays: it is not given.
    """
    if hasattr(given, "tolist"):  # numpy's scalars and arrays, as Parquet readers hand them out
        given = given.tolist()
    if given is None:
        return None
    if isinstance(given, Sequence) and not isinstance(given, str | bytes | bytearray):
        if not 1 <= len(given) <= MOST_REFERENCES:
            raise ValueError(f"give 1 to {MOST_REFERENCES} alternative references, not {len(given)}")
        return [_text(one) for one in given]
    return _text(given)


def _text(given: object) -> str:
    if hasattr(given, "tolist"):
        given = given.tolist()
    if isinstance(given, str):
        return mended(given)
    if isinstance(given, int | float) and not isinstance(given, bool):
        if not math.isfinite(given):
            raise ValueError(f"a reference is {given}, which is no answer; leave the row out or fill it in")
        return str(given)
    if isinstance(given, Mapping):
        names = ", ".join(map(str, list(given)[:5]))
        raise ValueError(f"a reference is an object with the keys {names}; give the text of the right one of them")
    raise ValueError(f"a reference is of type {type(given).__name__}; give text, a number, or a list of texts")


AnyReference = Annotated[str | list[str] | None, BeforeValidator(reference_of)]
"""One text or several alternatives."""


def texts_of(reference: str | list[str] | None) -> list[str]:
    """Return all alternatives; none where the reference came as ids."""
    return [reference] if isinstance(reference, str) else list(reference or ())


def must_be_one_reference(reference: object, ids: object) -> None:
    """Raise ValueError when alternative texts stand beside token ids, which are one reference."""
    if isinstance(reference, list) and ids is not None:
        raise ValueError("alternative references come as texts; leave `reference_token_ids` or the list out")
