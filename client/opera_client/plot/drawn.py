"""Parts of HTML files that the code of the live page draws: their data, its style, its script.

The code is built from `ui/` at the top of the repository into `static/` and goes into the file, so that it opens
without a network.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any, Literal

POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'"
"""Content security policy of a file: nothing is asked of anybody."""


def style() -> str:
    """Return the style sheet of all parts."""
    return _built("plot.css")


def script() -> str:
    """Return the script that draws all parts of a page; it stands behind them."""
    return _built("plot.js")


def part(what: Literal["groups", "curves"], data: Any) -> str:
    """Return an element in which the script draws `data`, as `ui/src/offline/` has it.

    Raises ValueError for numbers that JSON has not.
    """
    # `</script>` inside a text must not end the element it travels in.
    text = json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    return (
        f'<div class="drawn" data-draw="{what}"><noscript>This part needs JavaScript.</noscript>'
        f'<script type="application/json">{text}</script></div>'
    )


def _built(name: str) -> str:
    return files(__package__).joinpath("static", name).read_text(encoding="utf-8")
