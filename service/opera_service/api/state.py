"""What routes find at hand: where the service stands, who may call, and answers given before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from fastapi import Request

from opera_client.errors import Unavailable
from opera_client.wire import Health
from opera_service.api.authenticator import Authenticator
from opera_service.api.body import LargeBodies
from opera_service.api.idempotency import IdempotencyCache
from opera_service.api.options import ApiOptions
from opera_service.observability.metrics import Metrics
from opera_service.pipelines.runtime import Runtime
from opera_service.ui.live_page import LivePage


class Lifecycle(Protocol):
    """Where the service stands: starting, ok, failed or draining."""

    @property
    def runtime(self) -> Runtime:
        """What serves. Raises `Unavailable` while it is loading, or what made loading fail."""
        ...

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""
        ...

    @property
    def draining(self) -> bool:
        """Whether no new work is wanted."""
        ...

    @property
    def alive(self) -> bool:
        """Whether this process may yet serve; otherwise only a new one can."""
        ...

    def health(self) -> Health:
        """Say whether requests can be served now."""
        ...


@dataclass(frozen=True)
class ApiState:
    """Made once with the app."""

    lifecycle: Lifecycle
    options: ApiOptions
    authenticator: Authenticator
    metrics: Metrics
    idempotency: IdempotencyCache
    large_bodies: LargeBodies
    live_page: LivePage | None
    """None unless the service was told to serve it."""


def state_of(request: Request) -> ApiState:
    """Return what the app was made with."""
    state: ApiState = request.app.state.api
    return state


def runtime_of(request: Request) -> Runtime:
    """Return what serves. Raises `Unavailable` while it is starting."""
    return state_of(request).lifecycle.runtime


def admin_runtime_of(request: Request) -> Runtime:
    """Return what a request for other weights works on. Raises `Unauthorized`, `Forbidden`, `Unavailable`."""
    state = state_of(request)
    state.authenticator.check_admin(request)
    if state.lifecycle.draining:
        raise Unavailable("the service is shutting down; it takes no weights any more")
    return state.lifecycle.runtime
