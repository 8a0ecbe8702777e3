"""OPERA's relatives, by their formulas, computed by hand."""

import numpy as np
import pytest
from scipy.special import logsumexp

from opera_client.errors import InvalidRequest
from opera_service.rewards.registry import resolve

# Deviations of the single tokens from their mean, so that mean probability and probability of the mean differ.
SHAPE = np.array([0.5, -0.5, 0.25, -0.25])


def shaped(tokens):
    return np.resize(SHAPE, tokens)


def price(hand, name, preset, responses, config=None, **bench):
    return hand.Bench(**bench).price(resolve(name, preset, config or {}), responses).trajectories


def broken(hand, *boundary_logprobs):
    return hand.thought(*boundary_logprobs, flags=("think_unclosed",))


# --- logprob --------------------------------------------------------------------------------------------------


def test_logprob_sums_or_averages(hand):
    one = price(hand, "logprob", "paper", [hand.thought(-1.5)], shape=shaped)[0]
    assert one.reward == pytest.approx(-12)
    assert one.components == pytest.approx({"sum": -12, "mean": -1.5})
    assert price(hand, "logprob", "hardened", [hand.thought(-1.5)], shape=shaped)[0].reward == pytest.approx(-1.5)


def test_logprob_hardened_bounds_a_token_and_prices_a_broken_format_at_the_bottom(hand):
    def one_impossible_token(tokens):
        return np.array([-79.0] + [0.0] * (tokens - 1))

    one = price(hand, "logprob", "hardened", [hand.thought(-1.0)], shape=one_impossible_token)[0]
    assert one.reward == pytest.approx((-10 - 7) / 8)
    group = [broken(hand, -0.1), hand.thought(-9.0)]
    assert [one.reward for one in price(hand, "logprob", "paper", group)] == pytest.approx([-0.8, -72])
    hardened = price(hand, "logprob", "hardened", group)
    assert [one.reward for one in hardened] == pytest.approx([-10, -9])
    assert hardened[0].flags == ("think_unclosed", "format_gate")
    summed = price(hand, "logprob", "hardened", group, {"reduction": "sum"})
    assert [one.reward for one in summed] == pytest.approx([-80, -72])


# --- verifree -------------------------------------------------------------------------------------------------


def test_verifree_is_the_likelihood_of_the_reference(hand):
    found = price(hand, "verifree", "paper", [hand.thought(-0.25), broken(hand, -0.25)], shape=shaped)
    assert [one.reward for one in found] == pytest.approx([np.exp(-2), 0])
    assert found[0].components == pytest.approx({"likelihood": np.exp(-2), "logprob": -2})
    scaled = price(hand, "verifree", "paper", [hand.thought(-0.25)], {"scale": 0.5})[0]
    assert scaled.reward == pytest.approx(np.exp(-1))


def test_verifree_says_when_it_vanishes(hand):
    for preset, tokens, expected in [("paper", 1000, 0), ("hardened", 1000, np.exp(-1000 / np.sqrt(125)))]:
        one = price(hand, "verifree", preset, [hand.thought(-1.0)], reference_tokens=tokens)[0]
        assert one.reward == pytest.approx(expected)
        assert one.flags == ("vanishing",)
    assert price(hand, "verifree", "hardened", [hand.thought(-1.0)])[0].flags == ()


# --- rlpr -----------------------------------------------------------------------------------------------------


def test_rlpr_is_the_gain_in_mean_probability_over_no_reasoning(hand):
    group = [hand.thought(-0.5), hand.thought(-3.0), broken(hand, -0.5)]
    found = price(hand, "rlpr", "paper", group, shape=shaped)
    spread = np.exp(SHAPE).mean()
    gain = (np.exp(-0.5) - np.exp(-2.0)) * spread
    assert [one.reward for one in found] == pytest.approx([0.9 * gain + 0.1, 0.1, 0.9 * gain])
    assert found[0].components == pytest.approx(
        {"gain": gain, "probability": np.exp(-0.5) * spread, "baseline": np.exp(-2) * spread, "format": 1}
    )
    assert found[1].components["gain"] == 0  # below the baseline: thresholded
    hardened = price(hand, "rlpr", "hardened", group, shape=shaped)
    assert [one.reward for one in hardened] == pytest.approx([gain, 0, 0])


def test_rlpr_hardened_ignores_gains_that_are_noise(hand):
    found = price(hand, "rlpr", "hardened", [hand.thought(-1.99), hand.thought(-1.9)])
    assert found[0].reward == 0
    assert found[1].reward == pytest.approx(np.exp(-1.9) - np.exp(-2))


# --- jepo -----------------------------------------------------------------------------------------------------


def test_jepo_is_the_leave_one_out_part_of_the_bound(hand):
    sums = np.array([-4.0, -8.0, -6.0])
    found = price(hand, "jepo", "paper", [hand.thought(total / 8) for total in sums])
    expected = [
        (logsumexp(sums) - np.log(3)) - (logsumexp(np.delete(sums, index)) - np.log(2)) for index in range(3)
    ]
    assert [one.reward for one in found] == pytest.approx(expected)
    assert found[1].components == pytest.approx(
        {"contribution": expected[1], "logprob": -8, "bound": logsumexp(sums) - np.log(3)}
    )


def test_jepo_of_long_references(hand):
    means = [-1.0, -2.0]  # sums of -1000 and -2000 nats
    paper = price(hand, "jepo", "paper", [hand.thought(mean) for mean in means], reference_tokens=1000)
    assert [one.reward for one in paper] == pytest.approx([1000 - np.log(2), -np.log(2)])
    hardened = price(hand, "jepo", "hardened", [hand.thought(mean) for mean in means], reference_tokens=1000)
    assert [one.reward for one in hardened] == pytest.approx([5, -np.log(2)])


def test_jepo_alone_or_without_any_valid_member_is_neutral(hand):
    for preset in ("paper", "hardened"):
        assert price(hand, "jepo", preset, [hand.thought(-1.0)])[0].reward == 0
    group = [broken(hand, -0.5), broken(hand, -1.0)]
    assert [one.reward for one in price(hand, "jepo", "hardened", group)] == [0, 0]


def test_jepo_hardened_gives_broken_formats_no_probability(hand):
    group = [broken(hand, -0.01), hand.thought(-1.0), hand.thought(-1.0)]
    found = [one.reward for one in price(hand, "jepo", "hardened", group)]
    assert found == pytest.approx([np.log(2 / 3), np.log(4 / 3), np.log(4 / 3)])
    with pytest.raises(InvalidRequest, match="needs a clip"):
        resolve("jepo", "hardened", {"clip": None})


# --- nover ----------------------------------------------------------------------------------------------------


def test_nover_ranks_among_valid_trajectories_and_rewards_efficiency(hand):
    def thought(mean, tokens):
        return hand.Response((hand.Paragraph("some words", mean, tokens=tokens),))

    # Divisors 1 + log10(tokens): 2, 3, 2 -> log perplexities 0.5, 0.4, 1.0
    group = [thought(-1.0, 10), thought(-1.2, 100), thought(-2.0, 10), broken(hand, -0.1)]
    paper = price(hand, "nover", "paper", group)
    assert [one.components["reasoning"] for one in paper] == pytest.approx([2 / 3, 1, 1 / 3, 0])
    assert [one.components["efficiency"] for one in paper] == [0, 0, 0, 0]
    assert [one.reward for one in paper] == pytest.approx([5 / 3, 2, 4 / 3, 0])

    hardened = price(hand, "nover", "hardened-1", group)
    assert [one.components["reasoning"] for one in hardened] == pytest.approx([1, 2 / 3, 1 / 3, 0])
    assert [one.components["efficiency"] for one in hardened] == pytest.approx([1 / 2, 0, 0, 0])
    assert [one.reward for one in hardened] == pytest.approx([2.5, 5 / 3, 4 / 3, 0])


def test_nover_discounts_by_the_tokens_of_the_thought_alone(hand):
    # 1.98 / 4 is below 1.00 / 2; with the two tokens of the prompt counted it would be above.
    group = [
        hand.Response((hand.Paragraph("words", mean, tokens=tokens),))
        for mean, tokens in ((-1, 10), (-1.98, 1000))
    ]
    found = price(hand, "nover", "paper", group)
    assert [one.components["reasoning"] for one in found] == [0.5, 1]


def test_nover_shares_ranks_and_has_a_word_for_a_single_one(hand):
    group = [hand.thought(-1.0), hand.thought(-1.0)]
    assert [one.components["reasoning"] for one in price(hand, "nover", "paper", group)] == [0.75, 0.75]
    for preset, reasoning in [("paper", 1.0), ("hardened", 0.5)]:
        one = price(hand, "nover", preset, [hand.thought(-1.0), broken(hand)])[0]
        assert one.components == {"reasoning": reasoning, "efficiency": 0, "format": 1}


def test_nover_prices_its_tags_with_the_reference():
    context = resolve("nover", "paper", {}).config.context
    assert (context.reference_prefix, context.reference_suffix) == ("<answer>\n", "\n</answer>")


# --- igpo -----------------------------------------------------------------------------------------------------


def test_igpo_gains_add_up_over_the_turns(hand):
    one = price(hand, "igpo", "paper", [hand.thought(-3.0, -1.0, -0.5)], shape=shaped)[0]
    assert one.reward == pytest.approx(np.exp(-0.5) - np.exp(-2.0))
    turns = np.exp([-2.0] + [segment.mean_logprob for segment in one.segments])
    assert np.diff(turns).sum() == pytest.approx(one.reward)
    assert [segment.credited for segment in one.segments] == [False, True, True]
    assert [segment.gain for segment in one.segments] == pytest.approx([-1, 2, 0.5])
    logs = price(hand, "igpo", "paper", [hand.thought(-3.0, -0.5)], {"unit": "logprob"})[0]
    assert logs.reward == pytest.approx(1.5)


def test_igpo_hardened_pays_a_broken_format_least(hand):
    found = price(hand, "igpo", "hardened", [broken(hand, -0.1), hand.thought(-9.0), hand.Response()])
    assert [one.reward for one in found] == pytest.approx([-1, np.exp(-9) - np.exp(-2), 0])


# --- all ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["logprob", "verifree", "rlpr", "jepo", "nover", "igpo"])
def test_a_copied_reference_pays_in_paper_only(hand, name):
    reference = " ".join(f"word{number}" for number in range(40))
    copy = hand.Response((hand.Paragraph("first a thought", -1.5), hand.Paragraph(reference, -0.01)))
    group = [copy, hand.thought(-1.0)]
    paper = price(hand, name, "paper", group, reference=reference)
    hardened = price(hand, name, "hardened", group, reference=reference)
    before = price(hand, name, "hardened-1", group, reference=reference)
    assert paper[0].reward > paper[1].reward
    assert hardened[0].reward <= hardened[1].reward
    assert before[0].reward < before[1].reward
    assert hardened[0].flags == before[0].flags == ("reference_copy",)
    assert hardened[0].token_logprobs == pytest.approx(-1.0)  # like its honest peer
    assert before[0].token_logprobs == pytest.approx(-1.5)  # as it stood before the copy
