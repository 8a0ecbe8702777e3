"""Log lines that carry the id of their request, as text or as JSON, and never quote what was sent.

An exception's message may hold a prompt, so lines show its type and its frames; `quote` lets the message in.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

request_id: ContextVar[str | None] = ContextVar("opera_request_id", default=None)
"""The id of the request that is being answered here; every task and worker thread of a request has it."""
LogFormat = Literal["text", "json"]


def configure(level: str, form: LogFormat, *, quote: bool) -> None:
    """Send everything from `level` up to stderr, one line an event (text: frames on lines of their own)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(quote=quote) if form == "json" else TextLines(quote=quote))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class TextLines(logging.Formatter):
    """For people: time, level, logger, request, message."""

    def __init__(self, *, quote: bool) -> None:
        super().__init__()
        self._quote = quote

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the frames of its exception."""
        named = request_id.get()
        where = f"{record.name} [{named}]" if named else record.name
        line = f"{_time(record)} {record.levelname} {where}: {record.getMessage()}"
        return "\n".join([line, *(f"{what}\n{frames}".rstrip() for what, frames in _raised(record, self._quote))])


class JsonLines(logging.Formatter):
    """For machines: one object a line, with what `extra` adds."""

    def __init__(self, *, quote: bool) -> None:
        super().__init__()
        self._quote = quote

    def format(self, record: logging.LogRecord) -> str:
        """Return time, level, logger, message, request_id (if any), extras, and the exceptions as a list."""
        line: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (named := request_id.get()) is not None:
            line["request_id"] = named
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if raised := [{"raised": what, "frames": frames} for what, frames in _raised(record, self._quote)]:
            line["exception"] = raised
        return json.dumps(line, ensure_ascii=False, default=str)


_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _raised(record: logging.LogRecord, quote: bool) -> Iterator[tuple[str, str]]:
    """Yield the record's exception, what caused it, and so on, each as (what, frames)."""
    error = record.exc_info[1] if record.exc_info else None
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        said = "".join(traceback.format_exception_only(error)).strip()
        what = said if quote else f"{type(error).__name__} (message left out, see --log-prompts)"
        yield what, "".join(traceback.format_tb(error.__traceback__))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
