"""The name of a policy's weights, the same in reward and sync."""

from __future__ import annotations


def weight_version(run_id: str | None, step: int) -> str:
    """Return the name of the policy's weights after `step` optimizer steps."""
    return f"{run_id or 'policy'}/{step}"
