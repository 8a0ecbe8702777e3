"""Whole groups as numbers, against the real app on the dummy engine."""

from __future__ import annotations

import asyncio
import inspect
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.adapters.gate import Gate

from opera_adapters._calling import Scored
from opera_adapters.groups import GroupMember, GroupReward, filled, members
from opera_client import RewardClient
from opera_client.errors import InvalidRequest, Unavailable
from opera_client.wire import ErrorDetail, MemberResult, ModelInfo, Timing, TrajectoryResult, Usage
from opera_service.pipelines.member_reward import MemberReward
from opera_service.pipelines.openrlhf import sample_of

QUESTION = {"prompt": "What is 17 + 25?\n", "reference": "42"}
TRIED = [
    {"response": "<think>\n17 + 25 is 42.\n\n</think>\n\n42"},
    {"response": "<think>\nI would say 32.\n\n</think>\n\n32"},
    {"response": "<think>\nWait, 7 + 5 carries.\n\n</think>\n\n42"},
]
COMPONENTS = {"relative", "reflection", "answer", "precision", "relevance", "thought", "value"}
KEYS = COMPONENTS | {"group_size_seen", "opera_failed"}


def ask(reward: GroupReward, trajectories: Any = TRIED, question: Any = QUESTION) -> list[GroupMember]:
    return asyncio.run(reward(question, trajectories, step=3))


def test_numbers_are_those_of_a_direct_request(service: Gate) -> None:
    # The earlier preset tells responses apart on the dummy engine, whose numbers depend on the token before alone.
    found = ask(GroupReward(service.url, run_id="r", preset="hardened-1"))
    with RewardClient(service.url) as client:
        (group,) = client.reward([{**QUESTION, "trajectories": TRIED}], preset="hardened-1").groups
    rewards = [one.reward for one in group.trajectories]
    assert [one.reward for one in found] == rewards
    low, high = min(rewards), max(rewards)
    assert low < high
    assert [one.score for one in found] == [(reward - low) / (high - low) for reward in rewards]
    assert [one.logs for one in found] == [
        {**one.components, "group_size_seen": 3, "opera_failed": 0} for one in group.trajectories
    ]
    assert (service.bodies[0]["step"], service.bodies[0]["run_id"]) == (3, "r")


def test_a_member_that_cannot_be_scored_gets_the_mean_of_the_others(service: Gate) -> None:
    *good, bad = ask(GroupReward(service.url), [*TRIED, {"response": ""}])
    assert bad.reward == pytest.approx(sum(one.reward for one in good) / 3)
    assert (bad.scored, bad.logs["opera_failed"], bad.logs["relative"]) == (False, 1, 0)
    assert all(one.scored for one in good)
    assert {tuple(one.logs) for one in [*good, bad]} == {tuple(bad.logs)}


def test_a_group_that_cannot_be_scored_gets_zero_for_all_also_at_first(service: Gate) -> None:
    """The service did answer: nothing here can be scored."""
    found = ask(GroupReward(service.url), [{"response": ""}] * 2)
    assert [(one.reward, one.score, one.scored) for one in found] == [(0.0, 0.0, False)] * 2
    assert found[0].logs.keys() == KEYS


def test_a_service_that_went_away_is_a_constant_with_the_same_keys(service: Gate) -> None:
    reward = GroupReward(service.url, timeout_s=3)
    before = ask(reward)
    service.refuse = lambda: True
    found = ask(reward)
    assert [(one.reward, one.score) for one in found] == [(0.0, 0.0)] * 3
    assert {tuple(one.logs) for one in [*before, *found]} == {tuple(found[0].logs)}


def test_a_service_that_never_was_ends_the_run(service: Gate) -> None:
    service.refuse = lambda: True
    with pytest.raises(Unavailable, match="no group was answered yet"):
        ask(GroupReward(service.url, timeout_s=0.5))


def test_a_first_group_without_a_reference_names_it(service: Gate) -> None:
    reward = GroupReward(service.url)
    with pytest.raises(InvalidRequest, match="field reference"):
        ask(reward, question={**QUESTION, "reference": ""})
    ask(reward)
    assert not any(one.scored for one in ask(reward, question={**QUESTION, "reference": ""}))


def test_a_failure_raises_where_it_should(service: Gate) -> None:
    with pytest.raises(Unavailable, match="1 of 4 trajectories: empty_response"):
        ask(GroupReward(service.url, on_failure="raise"), [*TRIED, {"response": ""}])


def test_names_of_components_follow_the_configuration(service: Gate) -> None:
    found = ask(GroupReward(service.url, preset="hardened-1", config={"total": {"consistency": None}}))
    assert set(found[0].logs) == {"relative", "reflection", "level", "group_size_seen", "opera_failed"}


def test_it_is_pickled_by_address(service: Gate) -> None:
    reward = GroupReward(service.url)
    assert ask(pickle.loads(pickle.dumps(reward))) == ask(reward)


REWARDS = st.one_of(st.none(), st.floats(-4, 4), st.just(0.7), st.just(0.7 + 1e-9))


@given(st.lists(REWARDS, min_size=1, max_size=9))
def test_the_services_own_numbers_for_openrlhf_are_the_same(rewards: list[float | None]) -> None:
    """Two rooms that may not import one another, one policy."""
    known = tuple(reward for reward in rewards if reward is not None)
    found = members(Scored([_result(reward) for reward in rewards]), ["relative"])
    for reward, member in zip(rewards, found, strict=True):
        sample = sample_of(_rewarded(reward, known, len(rewards)), ["relative"])
        assert (member.reward, member.score) == (sample["rewards"], sample["scores"])
        assert member.logs == {name: sample[name] for name in member.logs}
        assert 0 <= member.score <= 1


def test_every_row_of_a_rank_has_its_groups_number() -> None:
    """Rows 1 to 4 are this rank's; the first group began on the rank before, the third goes on after."""
    rewards = [1.0, None, 2.0, None, 4.0, 5.0]
    scored = Scored([_result(reward) for reward in rewards])
    assert filled(scored, [[0, 1], [2, 3], [4, 5]], range(1, 5)) == [1.0, 2.0, 2.0, 4.0]


def test_a_group_of_several_ranks_that_is_lost_here_is_no_constant() -> None:
    """The other rank may have its reward: 0 beside that would be a lesson."""
    scored = Scored([None, None, _result(1.0), _result(2.0)], problem="no answer")
    with pytest.raises(Unavailable, match="several ranks has no reward on this one: no answer"):
        filled(scored, [[0, 1], [2, 3]], range(1, 4))
    assert filled(scored, [[0, 1], [2, 3]], range(4)) == [0.0, 0.0, 1.0, 2.0]


def _result(reward: float | None) -> TrajectoryResult | None:
    if reward is None:
        return None
    return TrajectoryResult(id="a", status="ok", reward=reward, components={"relative": 0.5})


def _rewarded(reward: float | None, group: tuple[float, ...], size: int) -> MemberReward:
    failed = reward is None
    return MemberReward(
        MemberResult(
            id="a", status="error" if failed else "ok", reward=reward,
            components=None if failed else {"relative": 0.5},
            error=ErrorDetail(code="empty_response", message="none") if failed else None,
            group_id="g", group_size_seen=size, config_hash="h",
            model=ModelInfo(name="m", revision="r", weight_version="0", dtype="d", engine="e"),
        ),
        Usage(tokens_naive=0, tokens_computed=0, scored_tokens=0),
        Timing(encode=0, queue=0, engine=0, total=0),
        group,
    )  # fmt: skip


def test_every_argument_is_documented() -> None:
    names = set(inspect.signature(GroupReward).parameters)
    text = inspect.getdoc(GroupReward) or ""
    assert [name for name in names if f"{name}:" not in text and f"{name}," not in text] == []
