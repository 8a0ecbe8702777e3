"""The reward of one whole group, as numbers, for trainers that have no word for "no reward".

    members = await GroupReward("http://localhost:8000")({"prompt": …, "reference": …}, [{"response": …}, …])

The failure policy of such trainers lives here; it knows the wire's groups, no trainer.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from opera_adapters._calling import RewardCaller, Scored
from opera_adapters._grouping import Row
from opera_adapters.turns import steps_of
from opera_client import AsyncRewardClient, ClientOptions, RewardClient
from opera_client.errors import InvalidRequest, Unavailable
from opera_client.group_numbers import number_of

log = logging.getLogger("opera_adapters")


@dataclass(frozen=True)
class GroupMember:
    """What a trainer is told about one trajectory."""

    reward: float
    """The group's mean where it could not be scored, 0 where the group could not."""
    score: float
    """In [0, 1]: the reward's place between its group's lowest and highest; 0 for all where those are equal."""
    logs: dict[str, float]
    """Every component, `group_size_seen` and `opera_failed`: the same keys for every member of a run."""
    scored: bool
    steps: list[tuple[int, float]] = field(default_factory=list)
    """For each of the policy's turns one past its last token, and what it earned; they add up to `reward` before
    it was rounded. Empty where the trajectory was not scored."""


class GroupReward:
    """Asks an opera-reward service about one group, and always has a number for each of its members.

    Until the service has answered once, its absence raises: the names of the components are not known yet, and a
    run that has not begun loses nothing.

    Args:
        url: the service's address; `OPERA_REWARD_URL` or http://127.0.0.1:8000 by default.
        client: instead of `url`, a client, e.g. `RewardClient.in_process()`. Cannot be pickled.
        reward, preset, config: which reward, as in `POST /reward`.
        run_id: name of this run, for the service's logs.
        on_failure: `constant` as `Member.reward` says, or `raise`.
        timeout_s: seconds for one group with all retries.
        client_options: arguments of the client made from `url`, e.g. `{"api_key": …}`.

    Raises:
        OperaError: on a call, what no retry can heal (unknown preset, wrong key) before anything was scored; any
            failure with `on_failure="raise"`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        client: AsyncRewardClient | RewardClient | None = None,
        reward: str = "opera",
        preset: str = "hardened",
        config: Mapping[str, Any] | None = None,
        run_id: str | None = None,
        on_failure: Literal["constant", "raise"] = "constant",
        timeout_s: float = 300.0,
        client_options: ClientOptions | None = None,
    ) -> None:
        self.on_failure = on_failure
        self._components: tuple[str, ...] | None = None
        self._caller = RewardCaller(
            url,
            client,
            timeout_s=timeout_s,
            options=client_options or {},
            fields={"reward": reward, "preset": preset, "config": dict(config or {}), "run_id": run_id},
        )

    async def __call__(
        self,
        question: Mapping[str, Any],
        trajectories: Sequence[Mapping[str, Any]],
        *,
        step: int | None = None,
        weight_version: str | None = None,
    ) -> list[GroupMember]:
        """Return one member a trajectory.

        Args:
            question: the fields of a wire `Group` but its trajectories, e.g. `prompt_token_ids`, `reference`.
            trajectories: the fields of a wire `Trajectory` each, e.g. `response_token_ids`.
            step: the trainer's step, for the service's logs.
            weight_version: refuse scores of other weights.
        """
        given = question.get("reference")
        missing = given is None or (isinstance(given, str) and not given)
        if missing and "reference_token_ids" not in question and self._components is None:
            raise InvalidRequest(
                "is empty or missing; name the dataset's column of known answers", field="reference"
            )
        rows = [Row(question, trajectory).checked() for trajectory in trajectories]
        scored = await self._caller.score(rows, len(rows) or None, step=step, weight_version=weight_version)
        self._components = self._components or scored.components
        if self._components is None:
            raise Unavailable(f"no group was answered yet: {scored.problem}")
        if self.on_failure == "raise" and None in scored.rewards:
            raise Unavailable(f"{scored.rewards.count(None)} of {len(rows)} trajectories: {scored.problem}")
        return members(scored, self._components)


def filled(scored: Scored, groups: Sequence[Sequence[int]], own: range) -> list[float]:
    """Return a number for every row of this rank, as `Member.reward` says.

    Args:
        scored: the rows of all groups that this rank holds a part of.
        groups: the positions of each group's rows.
        own: the positions of this rank's rows.

    Raises:
        Unavailable: a group that lies on several ranks got no reward here; another rank may have its rewards, and
            a constant beside those would be a wrong one.
    """
    found = dict.fromkeys(own, 0.0)
    for places in groups:
        part = Scored([scored.rows[at] for at in places])
        if part.rewards.count(None) == len(places) and any(at not in own for at in places):
            raise Unavailable(f"a group that lies on several ranks has no reward on this one: {scored.problem}")
        for at, member in zip(places, members(part, ()), strict=True):
            if at in own:
                found[at] = member.reward
    return list(found.values())


def members(scored: Scored, components: Sequence[str]) -> list[GroupMember]:
    """Return numbers for every row of one group."""
    known = [reward for reward in scored.rewards if reward is not None]
    found = []
    for row, given in zip(scored.rows, scored.rewards, strict=True):
        number = number_of(given, known)
        values = row.components if row and row.components else {}
        logs = {name: values.get(name, 0.0) for name in components}
        logs |= {"group_size_seen": float(len(scored.rows)), "opera_failed": float(given is None)}
        steps = [] if row is None else steps_of(row, row.response_tokens or 0)
        found.append(GroupMember(number.reward, number.score, logs, given is not None, steps))
    return found
