"""Hints of one session of verl's agent loop. Knows verl's sample and our settings; no Ray, no network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opera_adapters.hinting import CallHints
from opera_adapters.verl.settings import OperaSettings
from opera_client import AsyncRewardClient
from opera_client.errors import OperaError


def hints_of(
    client: AsyncRewardClient, settings: OperaSettings, sample: Mapping[str, Any], session_id: int
) -> CallHints | None:
    """Return what takes a session's calls; None for a sample whose reward request will fail anyway."""
    try:
        about: dict[str, Any] = {**settings.asked, "task": settings.task_of(sample), "detail": "reward"}
        if settings.reference is not None:
            about["reference"] = settings.reference_of(sample)
    except OperaError:  # the reward request says it
        return None
    uid = str(sample["uid"])
    step = int(sample["global_steps"])
    return CallHints(client, **about, step=step, group_id=uid, member_id=f"{uid}/{session_id}")
