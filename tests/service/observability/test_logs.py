"""Log lines as text and as JSON: whose request, what happened, never what was sent."""

import json
import logging
import threading

import pytest

from opera_service.observability.logs import JsonLines, TextLines, request_id

SECRET = "xylophone-marmalade"


def record(message: str, *args: object, error: Exception | None = None, **extra: object) -> logging.LogRecord:
    trace = (type(error), error, error.__traceback__) if error else None
    made = logging.LogRecord("opera_service.part", logging.WARNING, "file.py", 1, message, args, trace)
    made.created = 1767225600.5
    vars(made).update(extra)
    return made


def raised() -> Exception:
    try:
        try:
            raise ValueError(f"cannot read {SECRET}")
        except ValueError as inner:
            raise RuntimeError(f"gave up on {SECRET}") from inner
    except RuntimeError as outer:
        return outer


@pytest.fixture
def in_request():
    token = request_id.set("abc-1")
    yield
    request_id.reset(token)


def test_a_json_line_is_an_object_with_the_request(in_request):
    line = JsonLines(quote=False).format(record("took %d ms", 7, route="/reward", status=200))
    assert json.loads(line) == {
        "time": "2026-01-01T00:00:00.500Z", "level": "warning", "logger": "opera_service.part",
        "message": "took 7 ms", "request_id": "abc-1", "route": "/reward", "status": 200,
    }  # fmt: skip


def test_a_text_line_names_the_request_when_there_is_one(in_request):
    lines = TextLines(quote=False)
    assert lines.format(record("hello")) == "2026-01-01T00:00:00.500Z WARNING opera_service.part [abc-1]: hello"
    seen: list[str] = []
    apart = threading.Thread(target=lambda: seen.append(lines.format(record("hello"))))
    apart.start()
    apart.join()
    assert seen == ["2026-01-01T00:00:00.500Z WARNING opera_service.part: hello"]


@pytest.mark.parametrize("kind", [JsonLines, TextLines])
def test_an_exception_is_shown_without_its_message_unless_asked(kind):
    quiet, open_ = kind(quote=False), kind(quote=True)
    line = quiet.format(record("failed", error=raised()))
    assert SECRET not in line
    for part in ("RuntimeError", "ValueError", "in raised", "--log-prompts"):
        assert part in line
    told = open_.format(record("failed", error=raised()))
    assert f"gave up on {SECRET}" in told
    assert f"cannot read {SECRET}" in told


def test_a_message_of_many_lines_stays_one_json_line():
    line = JsonLines(quote=False).format(record("a\nb", error=raised()))
    assert "\n" not in line
    assert json.loads(line)["exception"][0]["frames"].count("\n") > 1


def test_a_circle_of_causes_ends():
    first, second = ValueError("1"), ValueError("2")
    first.__cause__, second.__cause__ = second, first
    assert len(json.loads(JsonLines(quote=False).format(record("failed", error=first)))["exception"]) == 2
