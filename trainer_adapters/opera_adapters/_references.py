"""A sample's known good answer, whatever the dataset holds it as; one rule for every trainer.

Knows the wire's rule for references, and no trainer.
"""

from __future__ import annotations

from typing import Any

from opera_client.errors import InvalidRequest
from opera_client.wire import reference_of, texts_of


def reference(found: Any, *, field: str, place: str) -> str | list[str]:
    """Return text, or a list of alternative texts.

    Args:
        found: what the dataset holds.
        field: the setting that names the place.
        place: what it names now.

    Raises:
        InvalidRequest: there is none, or it is no text; names `field`.
    """
    try:
        given = reference_of(found)
    except ValueError as error:
        raise InvalidRequest(
            f"{place!r} of a sample: {error}; name its place in the dataset", field=field
        ) from None
    if not texts_of(given) or not all(text.strip() for text in texts_of(given)):
        raise InvalidRequest(f"{place!r} of a sample is empty; name the place of the known answer", field=field)
    return given if given is not None else ""
