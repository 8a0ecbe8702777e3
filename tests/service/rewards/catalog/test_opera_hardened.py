"""The preset `hardened` by its formulas, computed by hand, and the properties that a trainer relies on."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opera_client.errors import OutcomeUnavailable
from opera_service.rewards.registry import resolve
from opera_service.scoring.tree import TreeBuilder

HARDENED = resolve("opera", "hardened", {})
REFERENCE = (
    "Kneading stretches gluten strands; resting relaxes them, while yeast produces bubbles and flavour slowly"
)
levels = st.floats(-9, -0.1)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def answered(hand, after_answer, after_thought=-2.0, *, alone=-2.0, given=-2.0, **more):
    return hand.thought(after_thought, answered=after_answer, alone=alone, given=given, **more)


def values(outcome):
    return [one.components["value"] for one in outcome.trajectories]


def rewards(outcome):
    return [one.reward for one in outcome.trajectories]


def test_the_formula_by_hand(hand):
    bench = hand.Bench(initial=-2.0)
    one = answered(hand, -1.2, -1.9, alone=-3.0, given=-1.0)
    two = answered(hand, -1.5, -1.0, alone=-3.0, given=-2.9)
    outcome = bench.price(HARDENED, [one, two])
    # One answer token and forty of padding: 2 nats of lift are 2 / 41 a token.
    first = 0.8 + min(2.0 / 41, 0.4) + min(0.1, 0.2)
    second = 0.5 + min(0.1 / 41, 0.25) + min(1.0, 0.125)
    assert values(outcome) == pytest.approx([first, second])
    assert outcome.trajectories[0].components == pytest.approx(
        {
            "relative": (sigmoid(2 * (first - second)) + sigmoid(2 * first)) / 2,
            "reflection": 0.0,
            "answer": 0.8,
            "precision": 2 / 41,
            "relevance": 5 / 21,
            "thought": 0.1,
            "value": first,
        }
    )
    assert rewards(outcome)[1] == pytest.approx((sigmoid(2 * (second - first)) + sigmoid(2 * second)) / 2)
    assert outcome.trajectories[0].token_logprobs.mean() == pytest.approx(-1.2)


def test_a_group_of_one_is_compared_with_an_empty_response(hand):
    better = hand.Bench().price(HARDENED, [answered(hand, -1.0)])
    worse = hand.Bench().price(HARDENED, [answered(hand, -3.0)])
    assert rewards(better) == pytest.approx([sigmoid(2.0)])
    assert rewards(worse)[0] < 0.5
    assert better.trajectories[0].flags == ()


def test_a_confirmation_earns_nothing_by_itself(hand):
    bench = hand.Bench()
    empty = answered(hand, -2.0, alone=-5.0, given=-0.1)
    thoughtful = answered(hand, -2.0, -0.1)
    assert values(bench.price(HARDENED, [empty, thoughtful])) == pytest.approx([0, 0])


def test_an_answer_that_fits_every_prompt_is_worth_less_than_nothing(hand):
    fits = answered(hand, -2.0, unasked=-2.0)
    half = answered(hand, -2.0, alone=-2.0, unasked=-4.1)  # 2.1 nats over 1 + 20 tokens: .1 a token
    outcome = hand.Bench().price(HARDENED, [fits, half, answered(hand, -2.0)])
    assert values(outcome) == pytest.approx([-6 * 0.2, -6 * 0.1, 0.0])
    assert [one.components["relevance"] for one in outcome.trajectories] == pytest.approx([0, 0.1, 5 / 21])
    off = resolve("opera", "hardened", {"value": {"least_relevance": 0}})
    assert values(hand.Bench().price(off, [fits, half])) == pytest.approx([0, 0])


def test_what_explains_the_reference_needs_no_other_relevance(hand):
    outcome = hand.Bench().price(
        HARDENED, [answered(hand, -1.6, unasked=-2.0), answered(hand, -1.8, unasked=-2.0)]
    )
    assert values(outcome) == pytest.approx([0.4 + 0.0, 0.2 - 6 * 0.1])


def test_a_group_that_spreads_less_than_the_noise_says_nothing(hand):
    group = [answered(hand, -1.00), answered(hand, -1.01)]
    outcome = hand.Bench().price(HARDENED, group)
    assert len(set(rewards(outcome))) == 1
    assert all("no_spread" in one.flags for one in outcome.trajectories)
    assert outcome.diagnostics["informative"] == 0
    far = hand.Bench().price(HARDENED, [answered(hand, -1.0), answered(hand, -1.5)])
    assert rewards(far)[0] > rewards(far)[1]


def test_the_noise_of_the_engine_raises_the_bar(hand):
    group, prices = hand.Bench().group([answered(hand, -1.0), answered(hand, -1.3)])
    outcomes = []
    for error in (0.0, 0.2):
        tree = TreeBuilder()
        noisy = replace(group, logprob_error=error)
        outcomes.append(HARDENED.read(noisy, HARDENED.plan(noisy, tree), prices.answer(tree)))
    quiet, noisy = outcomes
    assert "no_spread" not in quiet.trajectories[0].flags
    assert "no_spread" in noisy.trajectories[0].flags


def test_a_malformed_member_gets_nothing_and_is_nobodys_peer(hand):
    good = [answered(hand, -1.0), answered(hand, -1.6)]
    broken = answered(hand, -0.1, flags=("think_unclosed",))
    silent = answered(hand, -0.1, answer=" ... ")
    outcome = hand.Bench().price(HARDENED, [*good, broken, silent])
    assert rewards(outcome)[:2] == pytest.approx(rewards(hand.Bench().price(HARDENED, good)))
    assert rewards(outcome)[2:] == [0, 0]
    assert all("format_gate" in one.flags for one in outcome.trajectories[2:])


def test_a_group_without_anything_to_read_says_so(hand):
    outcome = hand.Bench().price(HARDENED, [answered(hand, -1.0, flags=("think_missing",))] * 2)
    assert rewards(outcome) == [0, 0]
    assert all("uninformative" in one.flags for one in outcome.trajectories)


def test_a_copy_is_paid_like_the_best_honest_member(hand):
    bench = hand.Bench(reference=REFERENCE, prompt="Why does dough rest?")
    honest = [
        answered(hand, -1.2, answer="It relaxes the gluten."),
        answered(hand, -1.6, answer="It gets softer."),
    ]
    copy = answered(hand, -0.1, answer=f"Well: {REFERENCE.upper()}")
    outcome = bench.price(HARDENED, [*honest, copy])
    assert outcome.trajectories[2].flags == ("reference_copy",)
    assert values(outcome)[2] == pytest.approx(values(outcome)[0])
    alone = bench.price(HARDENED, [copy])
    assert values(alone) == pytest.approx([0])


def test_the_thought_is_free_to_quote_the_reference(hand):
    bench = hand.Bench(reference=REFERENCE, prompt="Why does dough rest?")
    thinking = hand.Response((hand.Paragraph(REFERENCE, -0.1),), answered=-1.2, answer="It relaxes the gluten.")
    plain = answered(hand, -1.2, -1.9, answer="It relaxes the gluten.")
    outcome = bench.price(HARDENED, [thinking, plain])
    assert outcome.trajectories[0].flags == ()
    assert values(outcome)[0] == pytest.approx(1.25 * values(outcome)[1] - 0.25 * 0.8 + 0.0, abs=0.3)


def test_thinkless_members_are_priced_as_answers(hand):
    thinking = answered(hand, -1.2, -1.0)
    plain = hand.Response(answered=-1.2, answer_only=True)
    outcome = hand.Bench().price(HARDENED, [thinking, plain])
    assert values(outcome) == pytest.approx([0.8 + 0.2, 0.8])


def test_boundaries_are_priced_only_when_asked_for_and_change_no_number(hand):
    bench = hand.Bench()
    group, prices = bench.group([hand.thought(-1.5, -1.2, reflective=(1,), answered=-1.1), answered(hand, -1.6)])
    read = {}
    for explained in (True, False):
        asked = replace(group, explained=explained)
        tree = TreeBuilder()
        plan = HARDENED.plan(asked, tree)
        read[explained] = HARDENED.read(asked, plan, prices.answer(tree)), tree.build().num_scored
    assert rewards(read[True][0]) == rewards(read[False][0])
    assert read[True][0].trajectories[0].components == read[False][0].trajectories[0].components
    assert len(read[True][0].trajectories[0].segments) == 2
    assert read[False][0].trajectories[0].segments == ()
    assert read[True][1] > read[False][1]


def test_reflection_is_paid_for_what_nothing_else_reaches(hand):
    paid = resolve("opera", "hardened", {"total": {"reflection": 1.0}})
    mended = hand.thought(-2.5, -1.0, reflective=(1,), answered=-1.0, unmarked={1: -1.4})
    words = hand.thought(-2.5, -1.0, reflective=(1,), answered=-1.0, unmarked={1: -1.0})
    bench = hand.Bench()
    earning, idle = (bench.price(paid, [one]).trajectories[0] for one in (mended, words))
    assert [segment.credited for segment in earning.segments] == [False, True]
    assert earning.components["reflection"] == pytest.approx(np.tanh(0.4))
    assert idle.components["reflection"] == 0
    unpaid = bench.price(HARDENED, [mended]).trajectories[0]
    assert not any(segment.credited for segment in unpaid.segments)  # its weight is 0, so nothing is credited
    peer = hand.thought(-0.9, answered=-1.0)
    assert bench.price(paid, [mended, peer]).trajectories[0].components["reflection"] == 0


def test_a_right_math_answer_is_paid_by_its_outcome(hand):
    group = [answered(hand, -1.0, outcome=True), answered(hand, -1.5, outcome=False)]
    outcome = hand.Bench(task="math").price(HARDENED, group)
    right, wrong = outcome.trajectories
    assert right.reward == pytest.approx(0.8 + 0.2 * right.components["relative"])
    assert wrong.reward == 0
    encoded, prices = hand.Bench(task="math").group([answered(hand, -1.0)])
    tree = TreeBuilder()
    plan = HARDENED.plan(encoded, tree)
    with pytest.raises(OutcomeUnavailable):
        HARDENED.read(encoded, plan, prices.answer(tree))


members = st.lists(st.tuples(levels, levels, levels, levels), min_size=1, max_size=8)


@given(members)
def test_rewards_are_bounded_and_do_not_depend_on_the_order(hand, group):
    made = [answered(hand, a, t, alone=q0, given=qr) for a, t, q0, qr in group]
    forward, backward = (hand.Bench().price(HARDENED, some) for some in (made, made[::-1]))
    assert all(0 <= reward <= 1 for reward in rewards(forward))
    assert rewards(forward) == pytest.approx(rewards(backward)[::-1])


@given(members, st.floats(-12, -1e-3))
def test_a_cheater_takes_at_most_its_share_of_a_comparison(hand, group, level):
    made = [answered(hand, a, t, alone=q0, given=qr) for a, t, q0, qr in group]
    made.append(answered(hand, -1.0))
    spread = [answered(hand, -8.0)]  # so that the group is never too even to be read
    ordinary = rewards(hand.Bench().price(HARDENED, [*made, *spread, answered(hand, -2.0)]))
    cheated = rewards(hand.Bench().price(HARDENED, [*made, *spread, answered(hand, level)]))
    share = 1 / (len(made) + 2)
    assert np.all(np.abs(np.array(ordinary) - np.array(cheated))[:-1] <= share + 1e-9)
