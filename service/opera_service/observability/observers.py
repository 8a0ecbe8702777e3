"""Who looks on: metrics, traces, subscribers of the `rewarded` event. Opened before the model is loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from opera_service.observability.metrics import Metrics
from opera_service.observability.rewarded import RefusedSubscriber, Subscriber
from opera_service.observability.tracing import NoTracing, Tracing


@dataclass(frozen=True)
class Observers:
    """What a service is watched by; without arguments, metrics that nobody may ever read."""

    metrics: Metrics = field(default_factory=Metrics)
    tracing: Tracing = field(default_factory=NoTracing)
    subscribers: Sequence[Subscriber] = ()
    """Told of rewarded requests after the service's own metrics, run health and running means."""
    refused: Sequence[RefusedSubscriber] = ()
    """Told of requests for rewards that were answered with an error as a whole."""
    closers: Sequence[Callable[[], None]] = ()
    """Called in a thread, in order, when the service has given its last answer."""

    def close(self) -> None:
        """Write and send what has not been yet; blocks, for seconds at most."""
        for close in (*self.closers, self.tracing.close):
            close()
