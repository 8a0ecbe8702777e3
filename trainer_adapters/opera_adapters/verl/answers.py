"""What verl is told about one trajectory: a number and `reward_extra_info`, or an error; never a 0 for a failure.

Knows the wire's answers and how verl counts steps; no Ray, no network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from opera_adapters._versions import weight_version
from opera_adapters.verl.settings import OperaSettings
from opera_client.errors import Unavailable, WeightVersionMismatch
from opera_client.wire import TrajectoryResult


@dataclass(frozen=True)
class Told:
    """The reward of one trajectory."""

    reward: float
    info: dict[str, float | str]
    """`opera/<component>`, `opera/mean_logprob` (where the reward reads a reference), `opera/group_size` and
    `opera/flags`; `opera/scorer_lag` with `max_lag`, `opera/scorer_kl` with `scorer_kl`. The same keys for every
    sample of a run."""
    steps: list[tuple[int, float]] = field(default_factory=list)
    """For each of the policy's turns one past its last token, and what it earned."""
    arrays: tuple[list[float], list[float]] | None = None
    """Token weights and token rewards, one a response token, from rewards that shape tokens."""


def told(
    result: TrajectoryResult,
    *,
    size: int,
    scored_by: str,
    written: tuple[int, int] | None,
    settings: OperaSettings,
) -> Told:
    """Return what verl learns of an answer.

    Args:
        result: of the service.
        size: members of the group that was scored.
        scored_by: the weight version behind the answer.
        written: the first and the last step whose weights wrote the trajectory, where known.
        settings: `max_lag` bounds how old the scorer may be.

    Raises:
        Unavailable: the trajectory has no reward.
        WeightVersionMismatch: the scorer's weights are too far from the writer's, or nobody knows how far.
    """
    if result.reward is None or result.components is None:
        why = f"{result.error.code}: {result.error.message}" if result.error else "no reason given"
        raise Unavailable(f"the trajectory has no reward: {why}")
    info: dict[str, float | str] = {f"opera/{name}": value for name, value in result.components.items()}
    if result.mean_logprob is not None:
        info["opera/mean_logprob"] = result.mean_logprob
    info["opera/group_size"] = float(size)
    info["opera/flags"] = ",".join(sorted(result.flags))
    allowed = 0 if settings.max_lag is None and settings.score_on == "rollout" else settings.max_lag
    if allowed is not None:
        away = lag(scored_by, written, settings.run_id)
        if away is None or away > allowed:
            raise WeightVersionMismatch(
                f"weights {scored_by!r} scored what the weights of steps {written} wrote, max_lag is "
                f"{allowed}; see the callback's log, and serve with "
                f"--weight-version {weight_version(settings.run_id, 0)}"
            )
        info["opera/scorer_lag"] = float(away)
    return Told(result.reward, info)


def lag(scored_by: str, written: tuple[int, int] | None, run_id: str | None) -> int | None:
    """Return how many steps the scorer's weights are away from those that wrote the trajectory.

    0 when they are among them. None when either is unknown, or the weights are another run's.
    """
    run = weight_version(run_id, 0).removesuffix("0")
    step = scored_by.removeprefix(run)
    if written is None or not scored_by.startswith(run) or not step.isdecimal():
        return None
    first, last = written
    return max(first - int(step), int(step) - last, 0)


def written_by(fields: Any) -> tuple[int, int] | None:
    """Return verl's `min_global_steps` and `max_global_steps` of a trajectory, where it has them."""
    if not isinstance(fields, Mapping):
        return None
    first, last = fields.get("min_global_steps"), fields.get("max_global_steps")
    return None if first is None or last is None else (int(first), int(last))
