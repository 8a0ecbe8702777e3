"""OpenEnv's rubric protocol: the real one where OpenEnv is installed, else its shape by the source of 0.10."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from opera_client import RewardClient
from opera_client.errors import InvalidRequest, Unavailable

PROMPT, REFERENCE = "What is 17 + 25?\n", "It is 42."
SAID = ["<think>\nI ask.\n\n</think>\n\nadd(17, 25)", "<think>\nSo it is.\n\n</think>\n\nIt is 42."]
HEARD = ["42. ", "nobody reads this"]


class RecordedTrajectoryRubric:
    """What `TrajectoryRubric` does with a step, without its hooks."""

    def __init__(self, intermediate_reward: float = 0.0) -> None:
        self.intermediate_reward = intermediate_reward
        self._trajectory: list[tuple[Any, Any]] = []

    def __call__(self, action: Any, observation: Any) -> float:
        self._trajectory.append((action, observation))
        if getattr(observation, "done", False):
            return self.score_trajectory(self._trajectory)  # type: ignore[attr-defined]
        return self.intermediate_reward

    def reset(self) -> None:
        self._trajectory = []


@pytest.fixture
def rubric(service, monkeypatch) -> Any:
    if find_spec("openenv") is None:
        for name in ("openenv", "openenv.core", "openenv.core.rubrics", "openenv.core.rubrics.trajectory"):
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        sys.modules["openenv.core.rubrics.trajectory"].TrajectoryRubric = RecordedTrajectoryRubric  # type: ignore[attr-defined]
    monkeypatch.delitem(sys.modules, "opera_adapters.openenv", raising=False)
    from opera_adapters.openenv import OperaRubric

    yield OperaRubric(said=lambda action: action.message, heard=lambda observation: observation.message)
    sys.modules.pop("opera_adapters.openenv", None)


def act(rubric: Any, number: int) -> float:
    observation = SimpleNamespace(message=HEARD[number], done=number == 1)
    return rubric(SimpleNamespace(message=SAID[number]), observation)


def test_a_trajectory_is_rewarded_when_it_is_done(rubric, service) -> None:
    turns = [
        {"role": "assistant", "content": SAID[0]},
        {"role": "environment", "content": HEARD[0]},
        {"role": "assistant", "content": SAID[1]},
    ]
    group = {"prompt": PROMPT, "reference": REFERENCE, "trajectories": [{"turns": turns}]}
    with RewardClient() as client:
        (expected,) = client.reward([group], reward="igpo").groups[0].trajectories
    for _ in range(2):  # another episode begins afresh
        rubric.begin(PROMPT, REFERENCE)
        assert rubric.compute_step_rewards() == []
        assert act(rubric, 0) == 0.0
        assert act(rubric, 1) == pytest.approx(expected.reward, abs=1e-9)
        steps = rubric.compute_step_rewards()
        assert steps == pytest.approx([step.reward for step in expected.steps], abs=1e-9)
        assert len(steps) == 2
        assert sum(steps) == pytest.approx(expected.reward, abs=1e-9)
        (asked,) = service.bodies[-1]["groups"]
        said = [{name: turn[name] for name in ("role", "content")} for turn in asked["trajectories"][0]["turns"]]
        assert (asked["prompt"], asked["reference"], said) == (PROMPT, REFERENCE, turns)


def test_no_reward_is_an_error_and_no_number(rubric) -> None:
    with pytest.raises(InvalidRequest, match="begin"):
        act(rubric, 1)
    rubric.begin(PROMPT, REFERENCE)
    with pytest.raises(Unavailable, match="no reward"):
        rubric(SimpleNamespace(message=""), SimpleNamespace(message="", done=True))
