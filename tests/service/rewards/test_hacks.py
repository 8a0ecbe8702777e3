"""Ways to be paid for nothing. Each is worth nothing in `hardened-1`; where `paper` falls for it, that is shown.

Reflection words are found by the encoding, so "butter" is asked of it; all prices are made by hand.
"""

from dataclasses import replace

import numpy as np
import pytest

from opera_service.rewards.guards import words
from opera_service.rewards.outcomes import judge
from opera_service.rewards.registry import resolve
from opera_service.trajectories.reflection import is_reflective

HARDENED = resolve("opera", "hardened-1", {})
PAPER = resolve("opera", "paper", {})
CONTROLS = (-1.99, -1.97, -1.98, -2.01)  # "Wait" alone gains 0.01 to 0.03 nats a token


def both(hand, responses, **bench):
    """Return the outcomes in `paper` and in `hardened-1`."""
    hard = hand.Bench(controls=CONTROLS, **bench)
    return (
        replace(hard, bridge=()).price(PAPER, responses).trajectories,
        hard.price(HARDENED, responses).trajectories,
    )


def reflections(outcomes):
    return [one.components["reflection"] for one in outcomes]


def test_empty_wait_paragraphs(hand):
    tiny = [-2.0 + 0.01 * step for step in range(1, 9)]
    filler = hand.thought(*tiny, reflective=range(8))
    honest = hand.thought(-1.5)
    paper, hardened = both(hand, [filler, honest])
    assert reflections(paper) == pytest.approx([np.tanh(4), 0])
    assert paper[0].reward > 2 * paper[1].reward  # the better thought earns less
    assert reflections(hardened) == [0, 0]
    assert hardened[0].reward < hardened[1].reward
    assert not any(segment.credited for segment in hardened[0].segments)


def test_butter_is_no_reflection():
    text = "Spread the butter on the bread and contribute a button."
    assert is_reflective(text, PAPER.config.reflection_words)
    assert not is_reflective(text, HARDENED.config.reflection_words)


def test_splitting_one_reflection_into_many(hand):
    whole = hand.thought(-0.5, reflective=(0,))
    steps = np.linspace(-2, -0.5, 9)[1:]
    split = hand.thought(*steps, reflective=range(8))
    paper, hardened = both(hand, [whole, split, hand.thought(-0.5)])
    assert paper[1].components["reflection"] > 2 * paper[0].components["reflection"]
    assert hardened[1].components["reflection"] == pytest.approx(hardened[0].components["reflection"])
    assert hardened[1].reward == pytest.approx(hardened[0].reward)


def test_splitting_below_the_margin_earns_less_than_not_splitting(hand):
    whole = hand.thought(-0.5, reflective=(0,))
    split = hand.thought(*np.linspace(-2, -0.5, 101)[1:], reflective=range(100))
    _, hardened = both(hand, [whole, split])
    assert hardened[1].components["reflection"] < 0.2 * hardened[0].components["reflection"]


def test_the_sawtooth(hand):
    down_and_up = [-3.0, -2.0] * 4
    paper, hardened = both(hand, [hand.thought(*down_and_up, reflective=(1, 3, 5, 7)), hand.thought(-1.9)])
    assert reflections(paper) == pytest.approx([np.tanh(2), 0])
    assert paper[0].reward > paper[1].reward
    assert reflections(hardened) == [0, 0]
    assert hardened[0].reward < hardened[1].reward


def test_the_same_paragraph_again(hand):
    again = hand.Paragraph("Wait, let me count the apples in the red basket once more", -1.5, True)
    first = hand.Paragraph("But let me count the apples in the red basket once more", -1.8, True)
    same = hand.Response((first, replace(again, text=first.text)))
    paper, hardened = both(hand, [same, hand.thought(-1.5)])
    assert [segment.credited for segment in paper[0].segments] == [True, True]
    assert [segment.credited for segment in hardened[0].segments] == [True, False]


REFERENCE = (
    "The harbour town grew rich on salt and herring, until the river silted up in the long dry summers of the "
    "last century and the merchants, one family after another, moved their ships and their money to the coast."
)


def copying(hand, pieces):
    """Thinks a little, then copies the reference into the thought, cut into `pieces` paragraphs."""
    copies = [" ".join(part) for part in np.array_split(words(REFERENCE), pieces)]
    paragraphs = [hand.Paragraph("The town must have changed because of trade", -1.8)]
    paragraphs += [
        hand.Paragraph(text, -1.8 + 1.75 * (number + 1) / len(copies), True) for number, text in enumerate(copies)
    ]
    return hand.Response(tuple(paragraphs))


@pytest.mark.parametrize("pieces", [1, 2, 5, 9])
def test_copying_the_reference_into_the_thought(hand, pieces):
    group = [copying(hand, pieces), hand.thought(-1.5), hand.thought(-1.8)]
    paper, hardened = both(hand, group, reference=REFERENCE)
    assert paper[0].reward == max(one.reward for one in paper)
    assert hardened[0].token_logprobs.mean() == pytest.approx(-1.8)  # as it stood before the copy
    assert hardened[0].components["relative"] == hardened[2].components["relative"] < 1
    assert hardened[0].components["reflection"] == 0
    assert hardened[0].flags == ("reference_copy",)
    assert len(hardened[0].segments) == 1 + pieces  # still reported
    assert not any(segment.credited for segment in hardened[0].segments)


def test_what_the_prompt_says_is_no_copy(hand):
    _, hardened = both(hand, [copying(hand, 1), hand.thought(-1.5)], reference=REFERENCE, prompt=REFERENCE)
    assert hardened[0].flags == ()
    assert hardened[0].components["relative"] == 1


def test_thinking_of_a_short_answer_is_no_copy(hand):
    response = hand.Response((hand.Paragraph("So it is seven apples in the red basket", -0.1),))
    _, hardened = both(hand, [response, hand.thought(-1.5)], reference="Seven apples in the red basket")
    assert hardened[0].flags == ()
    assert hardened[0].components["relative"] == 1


def test_copying_the_reference_into_the_answer(hand):
    copied = hand.thought(-1.8, answer=REFERENCE, hybrid=-0.05)
    honest = hand.thought(-1.5, hybrid=-1.4)
    paper, hardened = both(hand, [copied, honest], reference=REFERENCE)
    assert paper[0].reward > paper[1].reward
    assert hardened[0].reward < hardened[1].reward


@pytest.mark.parametrize(
    ("name", "preset", "config"),
    [("verifree", "hardened", {}), ("opera", "hardened", {"value": {"priced": "thought"}})],
)
def test_a_copy_behind_another_shown_text_is_a_copy(hand, name, preset, config):
    reward = resolve(name, preset, config)
    bench = hand.Bench(reference=REFERENCE)
    group, prices = bench.group([hand.thought(-0.1), hand.thought(-1.5), hand.thought(-1.8)])
    first, *others = group.trajectories
    hidden = replace(first, decoded=f"<think>Hm.</think>{REFERENCE}")
    told = replace(first, decoded=None, text=f"<think>Hm.</think>{REFERENCE}")
    plain, shown, behind = (
        bench.read(reward, replace(group, trajectories=(one, *others)), prices).trajectories
        for one in (first, told, hidden)
    )
    assert [one.reward for one in behind] == [one.reward for one in shown] != [one.reward for one in plain]


def test_pricing_after_the_response_needs_no_bridge_and_still_minds_copies(hand):
    reward = resolve("opera", "hardened-1", {"final": "response"})
    group = [hand.thought(-1.5, hybrid=-0.25), replace(copying(hand, 1), hybrid=-0.05)]
    found = hand.Bench(reference=REFERENCE).price(reward, group).trajectories
    assert [one.token_logprobs.mean() for one in found] == pytest.approx([-0.25, -1.8])


@pytest.mark.parametrize("flags", [("think_missing",), ("think_unclosed",), ("empty_answer",)])
def test_broken_format(hand, flags):
    broken = hand.thought(hybrid=-0.1, flags=flags)
    paper, hardened = both(hand, [broken, hand.thought(-1.5)])
    assert paper[0].reward == pytest.approx(0.3)
    assert hardened[0].reward == 0 < hardened[1].reward
    assert hardened[0].flags == (*flags, "format_gate")


def test_an_empty_answer_has_no_consistency(hand):
    _, hardened = both(hand, [hand.thought(-1.0, answer=""), hand.thought(-1.5)])
    assert hardened[0].components["consistency"] == 0
    assert hardened[0].reward == 0


@pytest.mark.parametrize("reference", [r"\frac{1}{2}", "0.5"])
def test_nested_boxes(hand, reference):
    # `paper` cuts the right answer at its first brace, and takes a wrong answer for right that has no box at all.
    right = hand.thought(-1.0, answer=r"Thus \boxed{\frac{1}{2}}.")
    unboxed = hand.thought(-1.0, answer=reference)
    cut = hand.thought(-1.0, answer=r"Thus \boxed{\frac{1}.")
    paper, hardened = both(hand, [right, unboxed, cut], task="math", reference=reference)
    assert [one.reward for one in paper] == [0, 1, 0]
    assert [one.reward > 0 for one in hardened] == [True, False, False]


def test_a_box_inside_an_unclosed_thought(hand):
    response = replace(hand.thought(flags=("think_unclosed",)), answer="")
    group, _ = hand.Bench(task="math", reference="7").group([response])
    unclosed = replace(group.trajectories[0], text=r"<think>maybe \boxed{7} or \boxed{7}", answer="")
    group = replace(group, trajectories=(unclosed,))
    assert judge(group, PAPER.config).group.trajectories[0].outcome is True
    assert judge(group, HARDENED.config).group.trajectories[0].outcome is False


def test_all_equal_groups_and_noise_that_looks_like_an_order(hand):
    equal = [hand.thought(-1.0, hybrid=-1.0) for _ in range(4)]
    paper, hardened = both(hand, equal)
    assert [one.reward for one in paper] == [0, 0, 0, 0]
    assert [one.components["relative"] for one in hardened] == [0.5] * 4

    noise = [hand.thought(-1.0 + 1e-6 * rank, hybrid=-1.0 + 1e-6 * rank) for rank in range(4)]
    paper, hardened = both(hand, noise)
    assert [one.components["relative"] for one in paper] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert [one.components["relative"] for one in hardened] == [0.5] * 4


def test_a_group_of_one(hand):
    paper, hardened = both(hand, [hand.thought(-2.5, -1.0, reflective=(0, 1), hybrid=-9.0)])
    assert paper[0].components["relative"] == 1  # best of nobody, with any price
    assert hardened[0].components["relative"] == 0.5
    assert hardened[0].components["reflection"] == 0


def test_reflection_after_which_the_thought_ends_badly(hand):
    ruined = hand.thought(-0.2, -3.0, reflective=(0,))
    good = hand.thought(-0.2)
    paper, hardened = both(hand, [ruined, good])
    assert paper[0].components["reflection"] == pytest.approx(np.tanh(0.5))
    assert hardened[0].components["reflection"] < 1e-6
    assert hardened[0].segments[0].credited  # it was productive; it just did not last
