"""Rewards that count answers, against counting by hand."""

from collections import Counter
from dataclasses import replace
from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opera_client.errors import OutcomeUnavailable
from opera_service.rewards.answer_classes import class_questions, classified
from opera_service.rewards.answer_counts import Counts
from opera_service.rewards.catalog.seed_grpo import semantic_entropy
from opera_service.rewards.registry import resolve
from opera_service.rewards.verifier import Verifier

CLASSES = st.lists(st.one_of(st.none(), st.integers(0, 4)), min_size=2, max_size=8)
WORDS = ["alpha", "beta", "gamma", "delta", "epsilon"]
VERIFIER = Verifier()


def numbered(classes):
    """Classes as `classified` numbers them: by first appearance, None for no answer."""
    seen: dict[int, int] = {}
    return tuple(None if one is None else seen.setdefault(one, len(seen)) for one in classes)


def outcome(hand, name, classes, preset="paper", config=None):
    answers = ["" if one is None else WORDS[one] for one in classes]
    responses = [
        hand.thought(-1.0, answer=answer, flags=() if answer else ("empty_answer",)) for answer in answers
    ]
    return hand.Bench().price(resolve(name, preset, config or {}), responses)


def values(hand, name, classes, preset="paper", config=None):
    return [one.reward for one in outcome(hand, name, classes, preset, config).trajectories]


@given(classes=CLASSES)
def test_empo_is_the_share_of_the_group_that_agrees(hand, classes):
    counts = Counter(one for one in classes if one is not None)
    shares = [0 if one is None else counts[one] / len(classes) for one in classes]
    alone = classes.count(None)
    entropy = -sum(n / len(classes) * log(n / len(classes)) for n in (*counts.values(), *[1] * alone))
    all_differ = len(counts) > 1 and len(counts) + alone == len(classes)
    assert values(hand, "empo", classes) == pytest.approx([0] * len(classes) if all_differ else shares)
    assert Counts(numbered(classes)).entropy == pytest.approx(entropy)


@given(classes=CLASSES)
def test_ttrl_pays_the_most_frequent_answer(hand, classes):
    counts = Counter(one for one in classes if one is not None)
    winner = counts.most_common(1)[0][0] if counts else None
    assert values(hand, "ttrl", classes) == [float(one is not None and one == winner) for one in classes]


@given(classes=CLASSES, alpha=st.floats(0, 2))
def test_ttrv_takes_the_entropy_off_everybody(hand, classes, alpha):
    counts = Counts(numbered(classes))
    expected = [share - alpha * counts.entropy for share in counts.shares]
    assert values(hand, "ttrv", classes, config={"diversity": alpha}) == pytest.approx(expected)


@given(classes=CLASSES, data=st.data())
@pytest.mark.parametrize("name", ["empo", "ttrv"])
def test_the_order_of_members_changes_nothing(hand, name, classes, data):
    order = data.draw(st.permutations(range(len(classes))))
    plain = values(hand, name, classes)
    assert values(hand, name, [classes[at] for at in order]) == pytest.approx([plain[at] for at in order])


def test_hardened_pays_no_vote_that_is_not_one(hand):
    assert values(hand, "ttrl", [0, 0, 1, 1]) == [1, 1, 0, 0]
    tied = outcome(hand, "ttrl", [0, 0, 1, 1], "hardened").trajectories
    assert [one.reward for one in tied] == [0] * 4
    assert {one.flags for one in tied} == {("uninformative",)}
    assert values(hand, "ttrl", [0, 0, 1, 2, 3], "hardened") == [0] * 5  # the largest answer is no majority
    assert values(hand, "ttrl", [0, 0, 0, 2, 3], "hardened") == [1, 1, 1, 0, 0]
    assert values(hand, "empo", [0, 0, 1, 2, 3, 4], "hardened") == [0] * 6  # 1.56 nats
    unanimous = outcome(hand, "empo", [1, 1, 1], "hardened").trajectories
    assert {one.flags for one in unanimous} == {("no_spread",)}


@pytest.mark.parametrize("preset", ["paper", "hardened"])
@pytest.mark.parametrize("name", ["empo", "ttrl", "ttrv"])
def test_a_lone_answer_agrees_with_nobody_and_is_paid_nothing(hand, name, preset):
    (one,) = outcome(hand, name, [0], preset).trajectories
    assert (one.reward, one.flags) == (0, ("uninformative",))


def test_who_does_not_answer_is_nobodys_peer(hand):
    found = outcome(hand, "empo", [0, 0, None]).trajectories
    assert [one.reward for one in found] == pytest.approx([2 / 3, 2 / 3, 0])
    assert "no_answer" in found[2].flags


@given(classes=CLASSES)
def test_semantic_entropy_of_counts_is_between_0_and_log_g(classes):
    known = numbered(classes)
    masses = np.full(len(known), 1 / len(known))
    sizes = [*Counter(one for one in known if one is not None).values(), *[1] * known.count(None)]
    expected = -sum(log(size / len(known)) for size in sizes) / len(sizes)
    assert semantic_entropy(known, masses) == pytest.approx(expected, abs=1e-12)
    assert -1e-12 <= expected <= log(len(known)) + 1e-12


def test_seed_grpo_scales_all_tokens_of_a_group_alike(hand):
    found = outcome(hand, "seed_grpo", [0, 0, 1, 2], "hardened")
    entropy = -(log(2 / 4) + 2 * log(1 / 4)) / 3
    for one in found.trajectories:
        assert one.components["entropy"] == pytest.approx(entropy)
        assert one.token_weights == pytest.approx(np.full(len(one.token_weights), 1 - entropy / log(4)))
        assert one.reward == 0
    assert set(outcome(hand, "seed_grpo", [0, 0], "hardened").trajectories[0].token_weights) == {1}
    assert set(outcome(hand, "seed_grpo", [0, 1], "hardened").trajectories[0].token_weights) == {0}


def test_seed_grpo_by_likelihood_weighs_classes_by_what_they_were_worth(hand):
    responses = [hand.thought(-1.0, answer=word, own=own) for word, own in [("a", -0.1), ("a", -0.3), ("b", -0.2)]]
    bench = hand.Bench()
    found = bench.price(resolve("seed_grpo", "paper", {}), responses)
    group, _ = bench.group(responses)
    lengths = [len(one.policy.ids) for one in group.trajectories]
    masses = np.exp([own * n for own, n in zip([-0.1, -0.3, -0.2], lengths, strict=True)])
    masses /= masses.sum()
    expected = -(log(masses[0] + masses[1]) + log(masses[2])) / 2
    assert found.trajectories[0].components["entropy"] == pytest.approx(expected)


def test_answers_are_compared_as_mathematics(hand):
    boxes = [r"\boxed{\frac{1}{2}}", r"\boxed{0.5}", r"\boxed{2}", "no box", r"\boxed{x+1}", r"\boxed{1 + x}"]
    group, _ = hand.Bench(task="math").group([hand.thought(-1.0, answer=one) for one in boxes])
    config = resolve("empo", "paper", {}).config
    verdicts = {one: VERIFIER.equal(one) for one in class_questions(group, config)}
    assert classified(group, config, verdicts).classes == (0, 0, 1, None, 2, 2)


def test_what_cannot_be_verified_is_not_the_same(hand):
    group, _ = hand.Bench(task="math").group(
        [hand.thought(-1.0, answer=one) for one in (r"\boxed{x+1}", r"\boxed{1 + x}")]
    )
    config = resolve("empo", "paper", {}).config
    asked = class_questions(group, config)
    assert len(asked) == 1
    unknown = dict.fromkeys(asked, OutcomeUnavailable("too slow"))
    assert classified(group, config, unknown).classes == (0, 1)


def test_texts_are_compared_by_their_words(hand):
    answers = ["The sea.", "the  SEA", "The sky", "+", "-"]
    group, _ = hand.Bench().group([hand.thought(-1.0, answer=one) for one in answers])
    assert classified(group, resolve("empo", "paper", {}).config).classes == (0, 0, 1, 2, 3)
    assert classified(group, resolve("opera", "paper", {}).config) is group
    assert group.only([0]).classes == ()
    assert classified(group, resolve("empo", "paper", {}).config).only([1, 2]).classes == (0, 1)


# --- unlikeliness ---------------------------------------------------------------------------------------------


def unlikely(hand, outcomes, own, preset="paper"):
    responses = [hand.thought(-1.0, outcome=right, own=value) for right, value in zip(outcomes, own, strict=True)]
    return hand.Bench(task="math").price(resolve("unlikeliness", preset, {}), responses).trajectories


def test_the_least_likely_right_answer_keeps_its_reward(hand):
    found = unlikely(hand, [True, True, False, True], [-0.1, -2.0, -3.0, -1.0])
    assert [one.reward for one in found] == pytest.approx([1 - 0.25 * 3 / 4, 1 - 0.25 / 4, 0, 1 - 0.25 * 2 / 4])


@given(own=st.lists(st.floats(-5, -0.01), min_size=1, max_size=6))
def test_wrong_answers_stay_0_and_right_ones_lose_a_quarter_at_most(hand, own):
    for preset in ("paper", "hardened"):
        right = [one.reward for one in unlikely(hand, [True] * len(own), own, preset)]
        assert all(0.75 < one <= 1 for one in right)
        assert [one.reward for one in unlikely(hand, [False] * len(own), own, preset)] == [0] * len(own)


def test_equally_likely_members_share_their_rank_when_hardened(hand):
    own = [-1.0, -1.0]
    assert [one.components["rank"] for one in unlikely(hand, [True, True], own)] == [0, 1]
    assert [one.components["rank"] for one in unlikely(hand, [True, True], own, "hardened")] == [0.5, 0.5]


def test_without_right_and_wrong_there_is_nothing_to_scale(hand):
    bench = hand.Bench()
    group, prices = bench.group([hand.thought(-1.0)])
    with pytest.raises(OutcomeUnavailable, match="task `math`"):
        bench.read(resolve("unlikeliness", "paper", {}), replace(group), prices)
