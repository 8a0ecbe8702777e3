"""Spans of a request: one a stage, under the caller's, in memory and over the wire; and what costs nothing."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from opera_service.observability.observers import Observers
from opera_service.observability.otel import OtelTracing
from opera_service.observability.tracing import NoTracing
from opera_service.server.app import create_app
from opera_service.server.build import open_observers
from opera_service.server.settings import Settings, SettingsError

from ..live import live

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALLER = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
GROUP = {"prompt": "p", "reference": "r", "trajectories": [{"response": "<think>a\n\nWait, b</think>c"}]}


async def ask(*posts: tuple[str, dict]) -> list[list[ReadableSpan]]:
    """Spans of each post, in order of their end."""
    exporter = InMemorySpanExporter()
    observers = Observers(tracing=OtelTracing(SimpleSpanProcessor(exporter)))
    app = create_app(Settings(engine="dummy"), observers=observers)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    seen = []
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://app", headers=CALLER) as client,
    ):
        for path, body in posts:
            await client.post(path, json=body, headers={"X-Request-Id": "mine-1"})
            seen.append(list(exporter.get_finished_spans()))
            exporter.clear()
        await client.get("/readyz")
        await client.get("/metrics")
        assert exporter.get_finished_spans() == ()
    return seen


async def test_a_request_has_a_span_a_stage_under_that_of_the_caller():
    (spans,) = await ask(("/reward", {"groups": [GROUP, {**GROUP, "group_id": "b"}]}))
    *stages, request = spans
    assert [span.name for span in stages] == ["encode", "queue", "engine", "read"]
    assert (request.name, request.kind) == ("POST /reward", SpanKind.SERVER)
    assert {f"{span.context.trace_id:032x}" for span in spans} == {TRACE}
    assert f"{request.parent.span_id:016x}" == PARENT
    assert {span.parent.span_id for span in stages} == {request.context.span_id}
    assert dict(request.attributes) == {
        "http.request.method": "POST", "http.route": "/reward", "http.response.status_code": 200,
        "opera.request_id": "mine-1",
    }  # fmt: skip
    encode, queue, engine, read = stages
    assert request.start_time <= encode.start_time <= encode.end_time <= queue.start_time
    assert queue.end_time == engine.start_time <= engine.end_time <= read.start_time <= read.end_time
    assert read.end_time <= request.end_time
    assert engine.attributes["opera.trees"] == 2
    assert engine.attributes["opera.tokens"] > 0


async def test_other_requests_have_their_stages():
    rank = {"items": [{"prompt": "p", "candidates": ["a", "b"]}]}
    expand = {"items": [{"prompt": "p", "n": 2, "max_tokens": 4}]}
    member = {**GROUP, "group_id": "g", "group_size": 1, "member_id": "m", "response": "x"}
    del member["trajectories"]
    ranked, expanded, joined, refused = await ask(
        ("/rank", rank), ("/expand", expand), ("/reward/member", member), ("/reward", {"groups": []})
    )
    assert [span.name for span in ranked] == ["encode", "queue", "engine", "read", "POST /rank"]
    assert [span.name for span in expanded][-1] == "POST /expand"
    assert {"encode", "generate", "queue", "engine", "read"} <= {span.name for span in expanded}
    assert [span.name for span in joined][-2:] == ["group", "POST /reward/member"]
    assert {"encode", "queue", "engine", "read"} <= {span.name for span in joined}
    assert [span.name for span in refused] == ["POST /reward"]
    assert refused[0].status.status_code is StatusCode.UNSET


def test_a_server_error_is_an_error():
    exporter = InMemorySpanExporter()
    tracing = OtelTracing(SimpleSpanProcessor(exporter))
    with tracing.request({}) as describe:
        describe("GET /", {"http.response.status_code": 500})
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert span.parent is None


def test_a_stage_outside_any_request_is_nobodys():
    exporter = InMemorySpanExporter()
    OtelTracing(SimpleSpanProcessor(exporter)).stage("encode", 1.0, 2.0)
    assert exporter.get_finished_spans() == ()


async def test_without_an_address_there_is_no_tracing_and_no_import():
    tracing = open_observers(Settings(engine="dummy")).tracing
    assert isinstance(tracing, NoTracing)
    with tracing.request(CALLER) as describe:
        describe("name", {})
        tracing.stage("encode", 0.0, 1.0, trees=1)
    tracing.close()


def test_a_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "opera_service.observability.otel")
    with pytest.raises(SettingsError, match=r"pip install 'opera-reward\[otel\]'"):
        open_observers(Settings(engine="dummy", otlp_endpoint="http://localhost:4318"))


class Collector(BaseHTTPRequestHandler):
    """Takes what OTLP's exporter sends."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, ExportTraceServiceRequest.FromString(body)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def collector() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    server.got = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_server_sends_its_spans_to_a_real_collector():
    with collector() as received:
        with live("--engine", "dummy", "--otlp-endpoint", f"http://127.0.0.1:{received.server_port}/") as server:
            assert httpx.post(f"{server.url}/reward", json={"groups": [GROUP]}, headers=CALLER).status_code == 200
        (path, sent), *_ = received.got
    assert path == "/v1/traces"
    (resource,) = sent.resource_spans
    named = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert named["service.name"] == "opera-reward"
    spans = [span for scope in resource.scope_spans for span in scope.spans]
    assert [span.name for span in spans] == ["encode", "queue", "engine", "read", "POST /reward"]
    assert {span.trace_id.hex() for span in spans} == {TRACE}


def test_a_collector_that_is_not_there_costs_no_answer_and_no_start():
    with live("--engine", "dummy", "--otlp-endpoint", "http://127.0.0.1:9") as server:
        assert httpx.post(f"{server.url}/reward", json={"groups": [GROUP]}).status_code == 200
        server.process.terminate()
        assert server.process.wait(timeout=30) == 0
