"""Every component in verl's own logs: its replay buffer, which says more about the batch that it samples.

verl 0.9 logs `reward_extra_info` of validation only; a sampler's metrics are logged with the training's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any

import transfer_queue
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer, ReplayBufferAsync

from opera_client.errors import InvalidRequest

PREFIX = "opera/"


class _Logging:
    """Adds means of the batch's `opera/…` numbers to the metrics.

    A custom sampler is not given verl's filter and refill settings: they are taken from
    `trainer.v1.sampler.sampler_kwargs`, under the names of `ReplayBuffer`'s arguments.
    """

    def __init__(self, *args: Any, sampler_kwargs: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, sampler_kwargs=sampler_kwargs, **kwargs, **dict(sampler_kwargs or {}))  # type: ignore[call-arg]

    def sample(self, global_steps: int, partition_id: str, batch_size: int) -> tuple[Any, dict[str, Any]]:
        """Return verl's batch and metrics, ours among them."""
        batch, metrics = super().sample(  # type: ignore[misc]
            global_steps=global_steps, partition_id=partition_id, batch_size=batch_size
        )
        if batch.keys:
            data = transfer_queue.kv_batch_get(
                keys=batch.keys, partition_id=batch.partition_id, select_fields=["extra_fields"]
            )
            metrics = {**metrics, **means(data["extra_fields"])}
        return batch, metrics


class LoggingReplayBuffer(_Logging, ReplayBuffer):  # type: ignore[misc]
    """For `trainer.v1.sampler.custom_sampler` with `trainer_mode: sync`.

    Raises:
        InvalidRequest: groups are to be filtered, and it is not said how many prompts a batch has; verl 0.9.1
            would end in the middle of the first step with a TypeError.
    """

    def __init__(self, *args: Any, sampler_kwargs: Any = None, **kwargs: Any) -> None:
        given = {**kwargs, **dict(sampler_kwargs or {})}
        missing = [name for name in ("train_batch_size", "gen_batch_size") if not given.get(name)]
        if given.get("filter_groups_metric") and missing:
            raise InvalidRequest(
                f"filter_groups_metric needs {' and '.join(missing)}, too: a custom sampler is not given them;"
                " repeat data.train_batch_size, and gen_batch_size=1, which verl uses for its own sampler",
                field="trainer.v1.sampler.sampler_kwargs",
            )
        super().__init__(*args, sampler_kwargs=sampler_kwargs, **kwargs)


class LoggingReplayBufferAsync(_Logging, ReplayBufferAsync):  # type: ignore[misc]
    """For `trainer.v1.sampler.custom_sampler` with the asynchronous trainer modes."""


def means(extra_fields: Iterable[Any]) -> dict[str, float]:
    """Return the mean of every `opera/…` number, and `opera/flag/<flag>`, the share of samples with that flag."""
    infos = []
    for one in extra_fields:
        fields = getattr(one, "data", one)
        info = fields.get("reward_extra_info") if isinstance(fields, Mapping) else None
        infos.append({name: value for name, value in (info or {}).items() if name.startswith(PREFIX)})
    seen: dict[str, list[float]] = {}
    flags: dict[str, int] = {}
    for info in infos:
        for flag in str(info.pop("opera/flags", "")).split(","):
            if flag:
                flags[flag] = flags.get(flag, 0) + 1
        for name, value in info.items():
            if not math.isnan(float(value)):  # opera/scorer_kl where the service had no time for it
                seen.setdefault(name, []).append(float(value))
    found = {name: fmean(values) for name, values in sorted(seen.items())}
    return found | {f"opera/flag/{name}": count / len(infos) for name, count in sorted(flags.items())}
