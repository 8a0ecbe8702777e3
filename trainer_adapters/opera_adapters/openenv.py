"""OPERA rewards as a rubric of OpenEnv: an environment's trajectory is rewarded when it is done, step by step.

    self.rubric = OperaRubric("http://localhost:8000", said=lambda action: action.message,
                              heard=lambda observation: observation.message)
    self.rubric.begin(question, reference)                  # in the environment's reset()

An environment knows one trajectory and no group: only rewards that compare nobody are of use here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from openenv.core.rubrics.trajectory import TrajectoryRubric

from opera_client import ClientOptions, RewardClient
from opera_client.errors import InvalidRequest, Unavailable


class OperaRubric(TrajectoryRubric):  # type: ignore[misc]  # as good as untyped
    """Returns `intermediate_reward` until `observation.done`, then the trajectory's reward, asked for once.

    `compute_step_rewards` is what each action earned; it adds up to that reward.

    Args:
        url: the service's address; `OPERA_REWARD_URL` or http://127.0.0.1:8000 by default.
        said, heard: the text of an action, and of the observation that answered it.
        reward, preset, config: which reward, as in `POST /reward`; one without a group, e.g. `igpo`, `logprob`.
        intermediate_reward: OpenEnv's own.
        client_options: arguments of the client, e.g. `{"api_key": …}`.

    Raises:
        OperaError: on a call, when the service gave no reward. It is never 0 for that.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        said: Callable[[Any], str],
        heard: Callable[[Any], str],
        reward: str = "igpo",
        preset: str = "hardened",
        config: Mapping[str, Any] | None = None,
        intermediate_reward: float = 0.0,
        client_options: ClientOptions | None = None,
    ) -> None:
        super().__init__(intermediate_reward)
        self._said, self._heard = said, heard
        self._fields: dict[str, Any] = {"reward": reward, "preset": preset, "config": dict(config or {})}
        self._client = RewardClient(url, **(client_options or {}))
        self._question: tuple[Any, str] | None = None
        self._steps: list[float] = []

    def begin(self, prompt: str | Sequence[Mapping[str, Any]], reference: str) -> None:
        """Forget the trajectory before, and say what the next one is asked and what is known to be good."""
        self.reset()
        self._question, self._steps = (prompt, reference), []

    def score_trajectory(self, trajectory: list[tuple[Any, Any]]) -> float:
        """Return the reward of what was said; what was heard in between is context."""
        if self._question is None:
            raise InvalidRequest("was not called: call begin(prompt, reference) in reset()", field="begin")
        prompt, reference = self._question
        turns: list[dict[str, Any]] = []
        for action, observation in trajectory:
            turns.append({"role": "assistant", "content": self._said(action)})
            turns.append({"role": "environment", "content": self._heard(observation)})
        asked = {"prompt": prompt, "reference": reference, "trajectories": [{"turns": turns[:-1]}]}
        (group,) = self._client.reward([asked], detail="reward", **self._fields).groups
        (one,) = group.trajectories
        if one.reward is None:
            raise Unavailable("the trajectory has no reward: " + (one.error.message if one.error else one.status))
        earned = [step.reward for step in one.steps or ()]
        self._steps = earned or [0.0] * (len(trajectory) - 1) + [one.reward]
        return float(one.reward)

    def compute_step_rewards(self) -> list[float]:
        """Return what each action earned, once the trajectory is done; nothing before."""
        return list(self._steps)
