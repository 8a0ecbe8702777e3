"""The parts that need no verl to be understood: settings, how far the scorer lags, gathering."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opera_adapters.verl.answers import lag, told, written_by
from opera_adapters.verl.group import PromptGroup
from opera_adapters.verl.settings import OperaSettings, from_mapping, look_up
from opera_client.errors import InvalidRequest, Unavailable, WeightVersionMismatch
from opera_client.wire import TrajectoryResult

OK = TrajectoryResult(
    id="0", status="ok", reward=0.5, components={"relative": 1.0}, mean_logprob=-1.0, flags=["b", "a"]
)


def test_filtering_groups_in_sync_mode_needs_the_sizes_of_batches() -> None:
    from opera_adapters.verl import LoggingReplayBuffer

    def built(**given: Any) -> Any:
        return LoggingReplayBuffer(
            trainer_mode="sync", trainer_config={}, max_off_policy_threshold=None, max_off_policy_strategy="drop",
            refill_fn=lambda count: count, sampler_kwargs=given,
        )  # fmt: skip

    with pytest.raises(InvalidRequest, match="needs train_batch_size and gen_batch_size"):
        built(filter_groups_metric="reward")
    with pytest.raises(InvalidRequest, match="needs train_batch_size, too"):
        built(filter_groups_metric="reward", gen_batch_size=1)
    buffer = built(filter_groups_metric="reward", train_batch_size=8, gen_batch_size=1)
    assert (buffer.train_batch_size, buffer.gen_batch_size, buffer.filter_groups_metric) == (8, 1, "reward")


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"ulr": "http://x"}, "reward.opera.ulr"),
        ({"task": "maths"}, "reward.opera.task"),
        ({"send": "both"}, "reward.opera.send"),
        ({"weights": "nccl"}, "reward.opera.weights"),
        ({"timeout_s": 0}, "reward.opera.timeout_s"),
        ({"wait_s": 3601}, "reward.opera.wait_s"),
        ({"max_lag": -1}, "reward.opera.max_lag"),
        ({"scorer_kl": True, "send": "text"}, "reward.opera.scorer_kl"),
    ],
)
def test_settings_that_cannot_be_name_their_key(given: Mapping[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        from_mapping(given)
    assert caught.value.field == field


def test_references_stand_where_the_dataset_puts_them() -> None:
    sample = {"reward_model": {"ground_truth": "42"}, "extra_info": {"gold": "forty-two", "kind": "math"}}
    assert OperaSettings().reference_of(sample) == "42"
    assert OperaSettings(reference="extra_info.gold").reference_of(sample) == "forty-two"
    assert OperaSettings(task_key="extra_info.kind").task_of(sample) == "math"
    assert OperaSettings(task_key="extra_info.sort").task_of(sample) == "open"
    with pytest.raises(InvalidRequest, match="no 'gold', only"):
        OperaSettings(reference="gold").reference_of(sample)
    assert look_up(sample, "reward_model.ground_truth.more") is None
    assert OperaSettings(reference=None).reference_of(sample) is None


def test_an_answer_is_a_number_and_always_the_same_keys() -> None:
    found = told(OK, size=4, scored_by="0", written=None, settings=OperaSettings())
    assert found.reward == 0.5
    assert found.info == {
        "opera/relative": 1.0, "opera/mean_logprob": -1.0, "opera/group_size": 4.0, "opera/flags": "a,b",
    }  # fmt: skip


def test_no_reward_is_an_error_and_no_number() -> None:
    broken = TrajectoryResult(id="0", status="error", error={"code": "context_too_long", "message": "cut it"})
    with pytest.raises(Unavailable, match="context_too_long: cut it"):
        told(broken, size=4, scored_by="0", written=None, settings=OperaSettings())


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_the_lag_is_the_distance_to_the_weights_that_wrote(scored: int, one: int, other: int) -> None:
    first, last = sorted((one, other))
    found = lag(f"run/{scored}", (first, last), "run")
    assert found == min(abs(scored - step) for step in range(first, last + 1))


@pytest.mark.parametrize("version", ["0", "run", "run/", "run/x", "other/3", "run/3/4", "run/-3"])
def test_the_lag_of_other_runs_weights_is_unknown(version: str) -> None:
    assert lag(version, (3, 3), "run") is None


@pytest.mark.parametrize(
    ("version", "refused"), [("run/1", False), ("run/0", True), ("run/6", False), ("run/7", True), ("0", True)]
)
def test_a_scorer_out_of_step_is_refused(version: str, refused: bool) -> None:
    settings = OperaSettings(run_id="run", max_lag=2)
    if refused:
        with pytest.raises(WeightVersionMismatch, match="--weight-version run/0"):
            told(OK, size=4, scored_by=version, written=(3, 4), settings=settings)
    else:
        assert "opera/scorer_lag" in told(OK, size=4, scored_by=version, written=(3, 4), settings=settings).info


def test_steps_that_verl_does_not_know_are_unknown() -> None:
    assert written_by({"min_global_steps": 3, "max_global_steps": 4}) == (3, 4)
    assert written_by({"min_global_steps": None, "max_global_steps": None}) is None
    assert written_by(None) is None


@given(st.lists(st.sampled_from(["brings", "leaves"]), min_size=1, max_size=6), st.randoms())
def test_a_group_is_asked_about_once_with_all_that_came(acts: list[str], rng: Any) -> None:
    questions: list[Mapping[int, str]] = []

    async def ask(items: Mapping[int, str]) -> dict[int, str]:
        questions.append(items)
        return {session: f"answer to {item}" for session, item in items.items()}

    async def session(group: PromptGroup[str, str], name: int, act: str) -> str | None:
        for _ in range(rng.randint(0, 3)):
            await asyncio.sleep(0)
        try:
            return await group.answer(name, f"item {name}") if act == "brings" else None
        finally:
            group.leave(name)

    async def run() -> list[str | None]:
        group = PromptGroup[str, str](len(acts), ask)
        return await asyncio.gather(*(session(group, name, act) for name, act in enumerate(acts)))

    came = {name: f"item {name}" for name, act in enumerate(acts) if act == "brings"}
    assert asyncio.run(run()) == [f"answer to item {name}" if name in came else None for name in range(len(acts))]
    assert questions == ([came] if came else [])


async def test_a_failed_question_fails_every_session_of_its_group() -> None:
    async def ask(items: Mapping[int, str]) -> dict[int, str]:
        raise Unavailable("down")

    group = PromptGroup[str, str](2, ask)
    found = await asyncio.gather(group.answer(0, "a"), group.answer(1, "b"), return_exceptions=True)
    assert all(isinstance(one, Unavailable) for one in found)
