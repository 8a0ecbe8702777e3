"""What a fresh service shows as zero: labels that are known before anything has happened.

Knows which errors, routes and rewards there are; counts nothing itself.
"""

from __future__ import annotations

from opera_client.errors import CanaryMismatch, InvalidWeights, ItemError, LimitExceeded, error_types
from opera_client.wire import RewardRequest
from opera_service.observability.metrics import Metrics
from opera_service.observability.run_health import HACKING
from opera_service.rewards.registry import resolve

ROUTES = ("/reward", "/reward/member", "/openrlhf/reward")
STATUSES = (200, 500, 503)
OVERLOAD = ("queue_requests", "queue_tokens", "fair_share", "deadline")
"""Reasons of `Overloaded`, as the admission check gives them."""


def show_zeros(metrics: Metrics) -> None:
    """Show the series of the routes that give rewards, and of the reward that a request gets if it names none."""
    fields = RewardRequest.model_fields
    reward, preset = fields["reward"].default, fields["preset"].default
    metrics.start_at_zero(
        routes=ROUTES,
        statuses=STATUSES,
        refusals=(*OVERLOAD, *_codes(LimitExceeded)),
        item_errors=_codes(ItemError),
        weight_errors=(InvalidWeights.code, CanaryMismatch.code),
        flags=HACKING,
        reward=reward,
        preset=preset,
        components=resolve(reward, preset, {}).components,
    )


def _codes(family: type[Exception]) -> list[str]:
    return [code for code, kind in error_types().items() if issubclass(kind, family)]
