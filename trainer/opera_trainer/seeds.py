"""The seeds of what a service samples: by run, task and step, never by order. Knows nothing else."""

from __future__ import annotations

import hashlib


def seed_of(seed: int, task_id: str, step: int) -> int:
    """Return the seed of one question to the service, of 32 bits; `step` tells a task's questions apart."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{task_id}/{step}".encode()).digest()[:4], "big")
