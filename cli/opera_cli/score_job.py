"""What `score` asks about one group, and what it writes down: the same with Ray and without."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from opera_cli.batch import error_of
from opera_cli.target import Target
from opera_client import AsyncRewardClient, Group, OperaError
from opera_client.files.journal import Record


def asking(settings: Mapping[str, Any]) -> Callable[[AsyncRewardClient, Group, str], Awaitable[Record]]:
    """Return how to score one group with these settings."""

    async def ask(client: AsyncRewardClient, group: Group, weight_version: str) -> Record:
        result = await client.reward([group], weight_version=weight_version, **settings)
        answer = result.groups[0].model_dump(mode="json", exclude_unset=True)
        return {"config_hash": result.config_hash, **answer}

    return ask


async def reads_references(client: AsyncRewardClient, settings: Mapping[str, Any]) -> str | None:
    """Return the name of the asked reward, or of the first term of the asked sum, that needs a reference."""
    names = [settings["reward"]]
    if names == ["sum"]:
        names = [term.get("name") for term in settings["config"].get("rewards", ()) if isinstance(term, Mapping)]
    needs = {one.name: one.needs for one in (await client.rewards()).rewards}
    return next((name for name in names if "reference" in needs.get(name, ())), None)


async def known_to_read_references(settings: Mapping[str, Any]) -> str | None:
    """Return what `reads_references` does, from this process alone: no model is loaded for that."""
    async with Target(engine="dummy").opened() as client:
        return await reads_references(client, settings)


def failed(group: Group, error: OperaError) -> Record:
    """Return the result of a group whose request failed."""
    reason = error_of(error)
    return {
        "config_hash": None,
        "group_id": group.group_id,
        "size": len(group.trajectories),
        "scored": 0,
        "initial_mean_logprob": None,
        "reference_tokens": 0,
        "trajectories": [
            {"id": str(place) if t.id is None else t.id, "status": "error", "reward": None, "error": reason}
            for place, t in enumerate(group.trajectories)
        ],
    }
