"""What verl's configuration says about us, under `reward.opera`, and where a sample's reference stands.

Knows plain mappings; no Ray, no tensors, no network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from opera_adapters._references import reference
from opera_client.errors import InvalidRequest

MAX_WAIT_S = 3600.0


@dataclass(frozen=True)
class OperaSettings:
    """The keys of `reward.opera`; keys of the API are not among them, for verl prints its configuration.

    Raises:
        InvalidRequest: a value that cannot be.
    """

    url: str | None = None
    """The service's address; `OPERA_REWARD_URL` or http://127.0.0.1:8000 by default."""
    score_on: Literal["service", "rollout"] = "service"
    """In the agent loop, `rollout` scores on the replicas that sampled; `service` is a service's own model."""
    reward: str = "opera"
    preset: str = "hardened"
    config: Mapping[str, Any] = field(default_factory=dict)
    """Which reward, as in `POST /reward`."""
    reference: str | None = "reward_model.ground_truth"
    """Where a sample's known good answer stands: dataset columns, joined by dots; None for a reward without."""
    task: Literal["open", "math"] = "open"
    task_key: str | None = None
    """Where a sample says which task it is, if it does."""
    send: Literal["ids", "text"] = "ids"
    """`ids` scores the very tokens of the rollout; `text` is for another model as scorer."""
    run_id: str | None = None
    """Name of this run, for the service's logs and the names of weights."""
    hints: bool = False
    """In the agent loop, tell the service after every turn what was written, so that it works ahead. It changes no
    reward, and is of use where the service keeps what it computes (docs/hints.md)."""
    timeout_s: float = 300.0
    """Seconds for scoring a group with all retries."""
    wait_s: float = 600.0
    """Seconds that a sample's reward waits for the rest of its group, where samples come alone."""
    max_lag: int | None = None
    """Refuse rewards whose weights are more steps away from those that wrote the sample; None for any weights, and
    with `score_on: rollout` for none but those."""
    scorer_kl: bool = False
    """In the agent loop, measure how far the scorer is from the policy as well: `opera/scorer_kl`."""
    weights: Literal["push", "load"] = "push"
    """How checkpoints reach the service: sent, or read by itself below its `--policy-root`."""

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                _refuse(name, f"must be one of {', '.join(allowed)}, not {getattr(self, name)!r}")
        if not self.timeout_s > 0:
            _refuse("timeout_s", f"must be more than 0 seconds, not {self.timeout_s}")
        if not 0 < self.wait_s <= MAX_WAIT_S:
            _refuse("wait_s", f"must be more than 0 and at most {MAX_WAIT_S:g} seconds, not {self.wait_s}")
        if self.scorer_kl and self.send != "ids":
            _refuse("scorer_kl", "compares log-probs of the same tokens; it needs send=ids")
        if self.score_on == "rollout" and (self.url is not None or self.send != "ids" or self.scorer_kl):
            _refuse(
                "score_on", "rollout scores the rollout's ids, with no url; the scorer is the policy: no scorer_kl"
            )
        if self.hints and (self.score_on == "rollout" or self.send != "ids"):
            _refuse("hints", "are of use to a service that scores ids; they need score_on=service and send=ids")
        if self.max_lag is not None and self.max_lag < 0:
            _refuse("max_lag", f"must be at least 0 steps, not {self.max_lag}")

    @property
    def asked(self) -> dict[str, Any]:
        """Return the fields of a request that are the same for the whole run."""
        return {"reward": self.reward, "preset": self.preset, "config": dict(self.config), "run_id": self.run_id}

    def reference_of(self, sample: Mapping[str, Any]) -> str | list[str] | None:
        """Return the sample's known good answer, or its alternatives; None where the run has none."""
        if self.reference is None:
            return None
        found = look_up(sample, self.reference)
        if found is None:
            raise InvalidRequest(
                f"the sample has no {self.reference!r}, only {sorted(sample)}; name its place in the dataset",
                field="reward.opera.reference",
            )
        return reference(found, field="reward.opera.reference", place=self.reference)

    def task_of(self, sample: Mapping[str, Any]) -> str:
        """Return `open` or `math`."""
        found = look_up(sample, self.task_key) if self.task_key else None
        return self.task if found is None else str(found)


_CHOICES = {
    "score_on": ("service", "rollout"),
    "task": ("open", "math"),
    "send": ("ids", "text"),
    "weights": ("push", "load"),
}


def settings_of(config: Any) -> OperaSettings:
    """Read `reward.opera` of verl's whole configuration.

    Raises:
        InvalidRequest: unknown keys, or values that cannot be.
    """
    from omegaconf import OmegaConf

    given = config.reward.get("opera")
    return from_mapping({} if given is None else OmegaConf.to_container(given, resolve=True))


def from_mapping(given: Any) -> OperaSettings:
    """Return the settings that a mapping holds; raises as `settings_of` does."""
    known = {one.name for one in fields(OperaSettings)}
    unknown = sorted(set(given) - known)
    if unknown:
        _refuse(unknown[0], f"is none of the keys {', '.join(sorted(known))}")
    return OperaSettings(**given)


def look_up(sample: Mapping[str, Any], path: str) -> Any:
    """Return what stands at a dotted path of nested mappings, None when it is not there."""
    found: Any = sample
    for name in path.split("."):
        if not isinstance(found, Mapping) or name not in found:
            return None
        found = found[name]
    return found


def _refuse(name: str, what: str) -> None:
    raise InvalidRequest(what, field=f"reward.opera.{name}")
