"""What the operator decides about HTTP itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ApiOptions:
    """Plain values; the settings say what each is for."""

    max_body_bytes: int
    max_weights_bytes: int
    overload_status: int
    log_prompts: bool
    open_metrics: bool
    cors_origins: tuple[str, ...]
    replay_bytes: int
    keep_replays_s: float
