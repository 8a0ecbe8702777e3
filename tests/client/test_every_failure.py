"""Whatever goes wrong, and whoever answers, the caller meets an `OperaError` and nothing else."""

import gzip
import json
from pathlib import Path

import httpx
import pytest
from tests.client.toy import group

import opera_client._in_process as in_process
from opera_client import AsyncRewardClient, RewardClient
from opera_client.errors import InvalidRequest, NotSupported, OperaError, ServiceUnreachable, UnexpectedAnswer

GROUPS = [group("a")]


def raising(error: Exception) -> httpx.MockTransport:
    def handle(request: httpx.Request) -> httpx.Response:
        raise error

    return httpx.MockTransport(handle)


def answering(status: int, body: bytes, **headers: str) -> httpx.MockTransport:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.MockTransport(lambda request: httpx.Response(status, headers=named, stream=Stream(body)))


class Stream(httpx.AsyncByteStream):
    """Bytes as a network brings them: decoded when read, not when the response is made."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    async def __aiter__(self):
        yield self.body


async def error_of(transport: httpx.MockTransport) -> OperaError:
    async with AsyncRewardClient("http://there", transport=transport, retries=0, timeout=10.0) as client:
        with pytest.raises(OperaError) as caught:
            await client.reward(GROUPS)
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        OSError(99, "no address"),
        ExceptionGroup("all addresses failed", [OSError(111, "refused"), OSError(101, "no route")]),
        UnicodeError("label empty or too long"),
        httpx.ReadError("reset"),
    ],
    ids=repr,
)
async def test_a_connection_that_fails_is_unreachable(error):
    assert isinstance(await error_of(raising(error)), ServiceUnreachable)


@pytest.mark.parametrize(
    "error", [httpx.TooManyRedirects("round and round"), RuntimeError("a library's own"), KeyError("x")], ids=repr
)
async def test_what_a_library_raises_about_an_answer_is_unexpected(error):
    assert isinstance(await error_of(raising(error)), UnexpectedAnswer)


@pytest.mark.parametrize(
    "transport",
    [
        answering(200, b"this is no gzip", content_encoding="gzip"),
        answering(200, gzip.compress(b"{}")[:-5], content_encoding="gzip"),
        answering(200, b"[" * 100_000),
        answering(404, b"[" * 100_000),
        answering(500, b'{"a":' * 50_000),
        answering(200, b"{}", content_type="text/plain; charset=nonsense"),
        answering(404, b"\xff\xfe", content_type="text/plain; charset=nonsense"),
        answering(301, b"", location="http://elsewhere:port/"),
        answering(400, json.dumps({"error": {"code": [], "message": "m", "field": 3}}).encode()),
        answering(200, b'{"reward": 1' + b"0" * 400 + b"}"),
    ],
)
async def test_a_broken_answer_is_told_as_such(transport):
    error = await error_of(transport)
    assert len(str(error)) < 1000


@pytest.mark.parametrize(
    "retry_after", ["1e300", "-5", "nan", "inf", "Mon, 99 Foo 99999 99:99:99 GMT", "0 0 0", "\xb2", "Thu"]
)
async def test_no_retry_after_breaks_the_waiting(retry_after):
    transport = answering(503, b"busy", retry_after=retry_after)
    await error_of(transport)


@pytest.mark.parametrize(
    "options",
    [
        {"url": 5}, {"url": "http://there:99999"}, {"url": "http://there:0"}, {"url": "http://\ud800"},
        {"api_key": "schlüssel"}, {"api_key": "two\nlines"}, {"headers": {"X-A": "b\r\nX-Admin: 1"}},
        {"headers": {"X-A": 5}}, {"timeout": "5"}, {"concurrency": 2.5}, {"max_items": None},
    ],
    ids=repr,
)  # fmt: skip
def test_options_that_cannot_work_are_refused_by_name(options):
    with pytest.raises(InvalidRequest) as caught:
        AsyncRewardClient(**{"url": "http://there", **options})
    assert caught.value.field == next(iter(options))


LOOP: dict = {}
LOOP["self"] = LOOP


@pytest.mark.parametrize(
    "arguments",
    [
        {"groups": 5}, {"groups": None}, {"groups": "text"}, {"groups": {"a": 1}}, {"groups": [5]}, {"config": 5},
        {"config": LOOP}, {"config": {1.5: object()}}, {"run_id": "\ud800"}, {"request_id": "one\ntwo"},
        {"request_id": "é"}, {"request_id": 7}, {"step": 2**63}, {"step": 10**5000}, {"detail": []},
    ],
    ids=lambda arguments: next(iter(arguments)),
)  # fmt: skip
def test_arguments_that_cannot_travel_are_refused(arguments):
    given = {"groups": GROUPS, **arguments}
    with RewardClient("http://127.0.0.1:9", retries=0, timeout=5.0) as client, pytest.raises(InvalidRequest):
        client.reward(given.pop("groups"), **given)


@pytest.mark.parametrize("weights", [5, None, "a\0b", "~nobody-of-this-name/weights"], ids=repr)
def test_weights_that_are_no_path_are_refused(weights):
    with RewardClient("http://127.0.0.1:9") as client, pytest.raises(InvalidRequest):
        client.push_weights(weights, "v1")


@pytest.mark.parametrize("header", [b'{"a":{"data_offsets":["0",8]}}', b'{"a":{"data_offsets":{}}}', b"[" * 5000])
def test_shards_with_broken_headers_are_refused(tmp_path: Path, header: bytes):
    for name in ("a.safetensors", "b.safetensors"):
        (tmp_path / name).write_bytes(len(header).to_bytes(8, "little") + header)
    with RewardClient("http://127.0.0.1:9") as client, pytest.raises(InvalidRequest):
        client.push_weights(tmp_path, "v1")


@pytest.mark.parametrize(
    ("variable", "value"),
    [("HTTP_PROXY", "socks5://127.0.0.1:1"), ("HTTP_PROXY", "nonsense://x"), ("SSL_CERT_FILE", "/not/there.pem")],
)
def test_an_environment_that_httpx_refuses_is_told(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(OperaError), RewardClient("http://there.invalid", retries=0, timeout=5.0) as client:
        client.reward(GROUPS)


def test_a_service_whose_packages_do_not_import_says_which(monkeypatch):
    def broken(name: str):
        raise ImportError("libcudart.so.12: cannot open shared object file")

    monkeypatch.setattr(in_process.importlib, "import_module", broken)
    with pytest.raises(NotSupported, match="libcudart"), RewardClient.in_process() as client:
        client.health()


async def test_an_endless_answer_is_left(monkeypatch):
    monkeypatch.setattr("opera_client._http.MAX_ANSWER_MB", 1)
    sent = 0

    async def endless():
        nonlocal sent
        while True:
            sent += 2**16
            yield b" " * 2**16

    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=endless()))
    error = await error_of(transport)
    assert isinstance(error, UnexpectedAnswer)
    assert "more than 1 MiB" in error.message
    assert sent < 2**21
