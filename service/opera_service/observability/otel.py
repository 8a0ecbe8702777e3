"""Tracing by OpenTelemetry's SDK: one span a request, one under it a stage, sent by OTLP over HTTP.

Sampling and the collector's headers are OpenTelemetry's own environment variables. It knows no route.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from opera_service.observability.tracing import Describe

CLOSE_WITHIN_S = 3.0
"""A collector that does not answer must not keep the service from leaving."""


class OtelTracing:
    """Spans go to `processor`; nothing global is touched."""

    def __init__(self, processor: SpanProcessor) -> None:
        name = os.environ.get("OTEL_SERVICE_NAME", "opera-reward")
        resource = Resource.create({"service.name": name, "service.version": version("opera-reward")})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("opera_service")
        self._propagator = TraceContextTextMapPropagator()
        self._epoch_ns = time.time_ns() - time.monotonic_ns()

    @classmethod
    def to(cls, endpoint: str) -> OtelTracing:
        """Send spans, in batches and in the background, to the collector at `endpoint`."""
        return cls(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")))

    @contextmanager
    def request(self, headers: Mapping[str, str]) -> Iterator[Describe]:
        """Open the span of a request; a status of 500 and more makes it an error."""
        caller = self._propagator.extract(headers)
        with self._tracer.start_as_current_span("request", caller, SpanKind.SERVER) as span:

            def describe(name: str, attributes: Mapping[str, str | int]) -> None:
                span.update_name(name)
                span.set_attributes(attributes)
                if int(attributes.get("http.response.status_code", 0)) >= 500:
                    span.set_status(Status(StatusCode.ERROR))

            yield describe

    def stage(self, name: str, started: float, ended: float, **numbers: int) -> None:
        """Add a span under the request's."""
        if not trace.get_current_span().is_recording():
            return
        attributes = {f"opera.{key}": value for key, value in numbers.items()}
        span = self._tracer.start_span(name, start_time=self._ns(started), attributes=attributes)
        span.end(self._ns(ended))

    def close(self) -> None:
        """Send what is left, for at most `CLOSE_WITHIN_S`."""
        leaving = threading.Thread(target=self._provider.shutdown, name="opera-traces", daemon=True)
        leaving.start()
        leaving.join(CLOSE_WITHIN_S)

    def _ns(self, clock_s: float) -> int:
        return self._epoch_ns + round(1e9 * clock_s)
