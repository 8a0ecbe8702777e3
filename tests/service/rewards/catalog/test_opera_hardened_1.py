"""The preset `hardened-1` by its formulas, computed by hand, and its properties."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import rankdata

from opera_client.errors import EngineFailed, OutcomeUnavailable
from opera_service.rewards.registry import resolve
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import TreeBuilder

HARDENED = resolve("opera", "hardened-1", {})
boundary_logprobs = st.floats(-12, -0.01)


@st.composite
def groups(draw):
    """Per response: boundary_logprobs of its paragraphs, which are reflective, mean log-prob of its own answer."""
    return draw(
        st.lists(
            st.tuples(
                st.lists(boundary_logprobs, min_size=1, max_size=5), st.sets(st.integers(0, 4)), boundary_logprobs
            ),
            min_size=1,
            max_size=6,
        )
    )


def responses(hand, group):
    return [hand.thought(*steps, reflective=words, own=own) for steps, words, own in group]


def test_the_formula_by_hand(hand):
    # |G| = 8, so tau = 1 and a sum is 8 times a mean.
    bench = hand.Bench(initial=-1.0)
    first = hand.thought(-1.5, -0.5, -0.25, reflective=(1,), own=-0.1)
    second = hand.thought(-0.125, own=-0.7)
    one, two = bench.price(HARDENED, [first, second]).trajectories
    q = {level: np.exp(8 * (level + 0.125)) for level in (-1.0, -0.5, -0.25)}
    climbed = q[-0.25] * (q[-0.5] - q[-1.0])
    assert one.components == pytest.approx(
        {"relative": q[-0.25], "reflection": climbed, "consistency": np.exp(-0.1), "level": np.exp(-0.25)}
    )
    assert one.reward == pytest.approx(q[-0.25] + 0.5 * climbed + 0.5 * np.exp(-0.1))
    assert [segment.credited for segment in one.segments] == [False, True, False]
    assert two.components == pytest.approx(
        {"relative": 1, "reflection": 0, "consistency": np.exp(-0.7), "level": np.exp(-0.125)}
    )
    assert two.reward == pytest.approx(1 + 0.5 * np.exp(-0.7))
    assert one.token_logprobs.sum() == pytest.approx(-2.0)


def test_the_best_of_a_group_is_paid_for_climbing_to_its_best_peer(hand):
    bench = hand.Bench(initial=-1.0)
    mended = hand.thought(-0.5, -0.1, reflective=(0, 1))
    outcome = bench.price(HARDENED, [mended, hand.thought(-0.25)]).trajectories[0]
    assert outcome.components["relative"] == 1
    assert outcome.components["reflection"] == pytest.approx(1 - np.exp(8 * (-1.0 + 0.25)))


@pytest.mark.parametrize(("tokens", "temperature"), [(1, 1), (8, 1), (32, 2), (800, 10)])
def test_the_temperature_grows_with_the_noise_of_a_sum(hand, tokens, temperature):
    outcome = hand.Bench(reference_tokens=tokens).price(HARDENED, [hand.thought(-1.0), hand.thought(-1.1)])
    assert outcome.diagnostics["temperature"] == pytest.approx(temperature)
    relative = [one.components["relative"] for one in outcome.trajectories]
    assert relative == pytest.approx([1, np.exp(-0.1 * tokens / temperature)])


def test_long_references_neither_vanish_nor_flatten(hand):
    means = [-1.30, -1.31, -1.35, -2.0]
    outcome = hand.Bench(reference_tokens=1000).price(HARDENED, [hand.thought(mean) for mean in means])
    relative = [one.components["relative"] for one in outcome.trajectories]
    tau = np.sqrt(1000 / 8)
    assert relative == pytest.approx([1, np.exp(-10 / tau), np.exp(-50 / tau), np.exp(-700 / tau)])
    assert len(set(relative)) == 4
    likelihoods = hand.Bench(reference_tokens=1000).rewards(
        "verifree", "paper", [hand.thought(mean) for mean in means]
    )
    assert max(likelihoods) == 0


@given(group=groups(), order=st.randoms())
def test_permuting_a_group_permutes_its_rewards(hand, group, order):
    shuffled = order.sample(range(len(group)), len(group))
    plain = hand.Bench(controls=(-2.0, -1.9)).rewards("opera", "hardened-1", responses(hand, group))
    moved = hand.Bench(controls=(-2.0, -1.9)).rewards(
        "opera", "hardened-1", responses(hand, [group[index] for index in shuffled])
    )
    assert moved == pytest.approx([plain[index] for index in shuffled], rel=1e-12)


@given(group=groups(), tokens=st.integers(1, 300))
def test_components_are_finite_and_have_the_same_keys(hand, group, tokens):
    outcome = hand.Bench(reference_tokens=tokens).price(HARDENED, responses(hand, group))
    for one in outcome.trajectories:
        assert tuple(one.components) == HARDENED.components
        assert np.isfinite([one.reward, *one.components.values()]).all()
        assert 0 <= one.components["reflection"] <= 1
        assert 0 <= one.reward <= 2
    assert np.isfinite(list(outcome.diagnostics.values())).all()


@given(group=groups(), raised=st.floats(0.001, 8), reflective=st.booleans(), data=st.data())
def test_a_better_end_is_never_paid_less(hand, group, raised, reflective, data):
    index = data.draw(st.integers(0, len(group) - 1))
    steps, words, own = group[index]
    words = (words | {len(steps) - 1}) if reflective else (words - {len(steps) - 1})
    worse = (steps, words, own)
    better = ([*steps[:-1], min(steps[-1] + raised, 0.0)], words, own)
    bench = hand.Bench()
    before, after = (
        bench.price(HARDENED, responses(hand, [*group[:index], changed, *group[index + 1 :]]))
        for changed in (worse, better)
    )
    # A group that becomes uninformative falls to the neutral value for everybody.
    assume(before.diagnostics["informative"] == after.diagnostics["informative"])
    assert after.trajectories[index].reward >= before.trajectories[index].reward - 1e-12


@given(prices=st.lists(boundary_logprobs, min_size=2, max_size=8))
def test_rank_mode_averages_ties_like_scipy(hand, prices):
    config = {"relative": {"mode": "rank", "margin": 0}, "total": {"consistency": None}}
    found = hand.Bench().rewards("opera", "hardened-1", [hand.thought(price) for price in prices], config)
    sums = np.array(prices) * 8
    assume(np.ptp(sums) > 0)
    assert found == pytest.approx((rankdata(sums, "average") - 1) / (len(prices) - 1))


def test_soft_rank_by_hand(hand):
    config = {"relative": {"mode": "soft_rank", "temperature": 4}, "total": {"consistency": None}}
    found = hand.Bench().rewards(
        "opera", "hardened-1", [hand.thought(mean) for mean in (-1.0, -1.5, -2.0)], config
    )

    def beats(gap):
        return 1 / (1 + np.exp(-gap / 4))

    assert found == pytest.approx([(beats(4) + beats(8)) / 2, 0.5, (beats(-4) + beats(-8)) / 2])


@pytest.mark.parametrize(
    ("controls", "margin"),
    [
        ((-2.0 + 0.1, -2.0 + 0.2, -2.0 + 0.3), 0.2 + 2 * 0.1),
        ((-2.5, -2.6), 0.005),  # contentless paragraphs that only hurt: the numeric floor
        ((-1.7,), 0.3),  # one control tells no spread
        ((-2.5,), 0.05),
        ((), 0.05),
    ],
)
def test_the_margin_is_what_contentless_paragraphs_gain(hand, controls, margin):
    bench = hand.Bench(initial=-2.0, controls=controls)
    outcome = bench.price(HARDENED, [hand.thought(-1.5), hand.thought(-1.0)])
    assert outcome.diagnostics["margin"] == pytest.approx(margin)
    assert outcome.diagnostics["controls"] == len(controls)


def test_a_reflection_must_gain_more_than_the_margin(hand):
    bench = hand.Bench(initial=-2.0, controls=(-1.9, -1.8, -1.7))  # margin 0.4
    outcome = bench.price(HARDENED, [hand.thought(-1.65, reflective=(0,)), hand.thought(-1.55, reflective=(0,))])
    assert [one.segments[0].credited for one in outcome.trajectories] == [False, True]


def test_short_and_unlabelled_segments_are_not_credited(hand):
    def paragraph(**changed):
        return hand.Response((hand.Paragraph("Wait, that is seven", -1.0, True, **changed),))

    plain = hand.thought(-1.0)
    outcome = hand.Bench().price(HARDENED, [paragraph(tokens=7), paragraph(tokens=8), plain])
    assert [one.segments[0].credited for one in outcome.trajectories] == [False, True, False]


@pytest.mark.parametrize(
    ("answer", "reference", "outcome"),
    [(r"\boxed{\frac{1}{2}}", "0.5", True), (r"\boxed{4}", "0.5", False), ("0.5", "0.5", False)],
)
def test_math_pays_the_right_answer_first_and_the_price_second(hand, answer, reference, outcome):
    bench = hand.Bench(task="math", reference=reference)
    found = bench.price(HARDENED, [hand.thought(-1.0, answer=answer), hand.thought(-0.5, answer=answer)])
    relative = np.exp(-4)
    expected = [0.8 + 0.2 * relative, 1.0] if outcome else [0, 0]
    assert [one.reward for one in found.trajectories] == pytest.approx(expected)
    assert found.trajectories[0].components["relative"] == pytest.approx(relative)


def test_math_without_an_outcome_is_an_error_not_a_zero(hand):
    group, prices = hand.Bench(task="math").group([hand.thought(-1.0)])
    tree = TreeBuilder()
    plan = HARDENED.plan(group, tree)
    with pytest.raises(OutcomeUnavailable, match="judged"):
        HARDENED.read(group, plan, prices.answer(tree))


@pytest.mark.parametrize("broken", [float("nan"), float("-inf")])
def test_numbers_that_are_not_finite_are_an_error(hand, broken):
    group, prices = hand.Bench().group([hand.thought(-1.0)])
    tree = TreeBuilder()
    plan = HARDENED.plan(group, tree)
    scores = prices.answer(tree)
    scores.logprobs[0] = broken
    with pytest.raises(EngineFailed, match="not finite"):
        HARDENED.read(group, plan, scores)


def test_equal_contexts_are_asked_once(hand):
    group, _ = hand.Bench(controls=(-2.0,)).group([hand.thought(-1.0, -0.5), hand.thought(-1.0)])
    tree = TreeBuilder()
    HARDENED.plan(group, tree)
    # initial, three boundaries, two own answers, one control
    assert tree.build().num_queries == 7


def test_consistency_is_not_planned_when_it_is_off(hand):
    group, prices = hand.Bench().group([hand.thought(-1.0)])
    reward = resolve("opera", "hardened-1", {"total": {"consistency": None, "level": None}})
    tree = TreeBuilder()
    plan = reward.plan(group, tree)
    assert tree.build().num_queries == 2
    outcome = reward.read(group, plan, prices.answer(tree))
    assert tuple(outcome.trajectories[0].components) == ("relative", "reflection") == reward.components


def test_scores_in_single_precision_are_read_in_double(hand):
    group, prices = hand.Bench().group([hand.thought(-1.0), hand.thought(-1.1)])
    tree = TreeBuilder()
    plan = HARDENED.plan(group, tree)
    exact = prices.answer(tree)
    single = TreeScores(exact.logprobs.astype(np.float32), exact.query_start, "0", exact.tokens_computed)
    found = HARDENED.read(group, plan, single).trajectories[1].components["relative"]
    assert found == pytest.approx(np.exp(8 * (float(np.float32(-1.1)) + 1)), rel=1e-12)
