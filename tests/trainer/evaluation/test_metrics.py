"""Metrics of rollouts, each against a count by hand."""

from __future__ import annotations

from itertools import combinations
from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opera_client.wire import Message
from opera_trainer.artefacts import Rollout
from opera_trainer.evaluation.metrics import auc, measure, paragraphs, pass_at


def rollout(task: str, right: bool | None, *, mode: str = "sampled", sample: int = 0, **more) -> Rollout:
    fields = {
        "task_id": task, "tier": "standard", "mode": mode, "sample": sample, "reference": "It is 9.", "tokens": 10,
        "prompt": [Message(role="user", content="?")], "response": "<think>\nSo.\n\n</think>\n\nIt is 9.",
        "right": right,
    }  # fmt: skip
    return Rollout.model_validate({**fields, **more})


def test_accuracies_and_pass_at_k():
    some = [rollout("a", True), rollout("a", False), rollout("b", False), rollout("b", False)]
    some += [rollout("a", True, mode="greedy"), rollout("b", False, mode="greedy")]
    found = measure(some, 100)["standard"]
    assert found["accuracy_sampled"].value == 0.25
    assert found["accuracy_sampled"].count == 2
    assert found["accuracy_greedy"].value == 0.5
    assert found["pass_at_2"].value == 0.5
    assert "pass_at_4" not in found
    assert found["tokens"].value == 10


@given(count=st.integers(1, 7), right=st.integers(0, 7), k=st.integers(1, 7))
def test_pass_at_k_is_the_share_of_draws_with_a_right_one(count: int, right: int, k: int):
    right, k = min(right, count), min(k, count)
    draws = list(combinations([True] * right + [False] * (count - right), k))
    assert pass_at(k, right, count) == pytest.approx(sum(map(any, draws)) / len(draws))


@given(st.lists(st.integers(0, 4).map(float), max_size=8), st.lists(st.integers(0, 4).map(float), max_size=8))
def test_auc_counts_pairs(right: list[float], wrong: list[float]):
    pairs = [(x > y) + 0.5 * (x == y) for x in right for y in wrong]
    assert auc(right, wrong) == (pytest.approx(sum(pairs) / len(pairs)) if pairs else None)


def test_reward_auc_compares_within_a_task_and_price_auc_across():
    some = [
        rollout("a", True, reward=0.2, mean_logprob=-0.1), rollout("a", False, reward=0.1, mean_logprob=-0.5),
        rollout("b", True, reward=0.9, mean_logprob=-0.6), rollout("b", False, reward=0.8, mean_logprob=-0.9),
    ]  # fmt: skip
    found = measure(some, 100)["standard"]
    assert found["reward_auc"].value == 1.0, "0.8 is wrong, and more than 0.2, but of another task"
    assert found["price_auc"].value == 0.75
    assert found["reference_perplexity"].value == pytest.approx(exp((0.3 + 0.75) / 2))


def test_rewards_that_say_nothing_have_an_auc_of_a_half():
    some = [rollout(str(n), bool(n % 2), reward=0.5, mean_logprob=-1.0) for n in range(8) for _ in range(2)]
    assert "reward_auc" not in measure(some, 100)["standard"], "no task has both"
    some = [rollout("a", True, reward=0.5), rollout("a", False, reward=0.5)]
    assert measure(some, 100)["standard"]["reward_auc"].value == 0.5


def test_shapes_of_responses():
    texts = (
        "<think>\n</think>\n\nIt is 9.",
        "<think>\nAna took 3.\n\nWait, that is wrong.\n\n</think>\n\nIt is 9.",
        "<think>\nMore butter.\n\n",
    )
    some = [rollout(str(n), None, response=text) for n, text in enumerate(texts)]
    found = measure(some, 100)["standard"]
    assert found["empty_thought"].value == pytest.approx(1 / 3)
    assert found["reflective"].value == pytest.approx(1 / 3), "of paragraphs; butter is no But"
    assert [len(paragraphs(text)) for text in texts] == [0, 2, 1]
    assert "accuracy_sampled" not in found, "unchecked answers are not wrong answers"


def test_components_and_flags_are_means_and_what_failed_is_left_out():
    some = [
        rollout("a", True, reward=1.0, components={"relative": 0.8}, flags=["copy"]),
        rollout("a", True),
        rollout("b", True, reward=0.0, components={"relative": 0.4}),
    ]
    found = measure(some, 100)["standard"]
    assert found["component/relative"].value == pytest.approx(0.6)
    assert found["reward"].value == 0.5
    assert found["flag/copy"].value == 0.25


def test_tiers_are_apart():
    found = measure([rollout("a", True), rollout("b", False, tier="harder")], 100)
    assert {tier: one["accuracy_sampled"].value for tier, one in found.items()} == {"standard": 1.0, "harder": 0.0}
