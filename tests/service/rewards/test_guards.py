"""Words, repeats, format and copies of the reference."""

import pytest

from opera_service.rewards.guards import OFF, CopyGuard, GuardConfig, malformed, repeats, words

SENTENCE = " ".join(f"word{number}" for number in range(40))


def guard(hand, reference=SENTENCE, prompt="", **rules):
    group, _ = hand.Bench(reference=reference, prompt=prompt).group([hand.thought(-1.0)])
    return CopyGuard(group, GuardConfig(**rules))


def first_copy(hand, finder, *paragraphs):
    response = hand.Response(tuple(hand.Paragraph(text, -1.0) for text in paragraphs))
    group, _ = hand.Bench().group([response])
    return finder.first_copy(group.trajectories[0])


def some(start, stop):
    return " ".join(f"word{number}" for number in range(start, stop))


def test_words():
    assert words("Don't STOP, Straße_2!") == ["don", "t", "stop", "strasse", "2"]
    assert words("因为7是质数，所以ok") == ["因", "为", "7", "是", "质", "数", "所", "以", "ok"]


@pytest.mark.parametrize(
    ("flags", "answer", "is_so"),
    [
        ((), "yes", False),
        (("think_repeated", "empty_think"), "yes", False),
        (("think_missing",), "yes", True),
        (("think_unclosed",), "yes", True),
        ((), " \n", True),
    ],
)
def test_malformed(hand, flags, answer, is_so):
    group, _ = hand.Bench().group([hand.thought(-1.0, flags=flags, answer=answer)])
    assert malformed(group.trajectories[0]) is is_so


def test_repeats():
    earlier = ["Wait, three apples and four apples make seven apples in all", "nothing alike"]
    assert repeats("wait! THREE apples and four apples make seven apples in all.", earlier, 0.9)
    assert repeats("Wait, four apples and three apples make seven apples in all", earlier, 0.9)
    assert not repeats("Wait, three apples and five apples make eight apples in all", earlier, 0.9)
    assert not repeats("apples", earlier, 0.9)
    assert not repeats("!!!", ["..."], 0.9)  # no words, no likeness


def test_a_run_of_thirteen_words_is_a_copy_and_twelve_are_not(hand):
    finder = guard(hand)
    assert first_copy(hand, finder, "so then", some(3, 15), "and on") is None
    assert first_copy(hand, finder, "so then", some(3, 16), "and on") == 1


def test_a_copy_that_runs_over_paragraphs_starts_in_the_first(hand):
    assert first_copy(hand, guard(hand), "so", "hm " + some(5, 10), some(10, 20)) == 1


def test_half_of_the_five_grams_is_the_limit(hand):
    # 36 five-grams; chunks of 12 words hold 8 of them and are no run of 13 when shuffled.
    finder = guard(hand)
    assert first_copy(hand, finder, some(0, 12), some(28, 40)) is None  # 16 of 36
    assert first_copy(hand, finder, "hm", some(28, 40), some(13, 24), some(0, 12)) == 1  # 23 of 36
    assert first_copy(hand, guard(hand, copy_share=None), "hm", some(28, 40), some(13, 24), some(0, 12)) is None


def test_a_copy_starts_at_the_earliest_sign_of_it(hand):
    # The run of 13 is in the third paragraph; together with the first one it is most of the reference.
    assert first_copy(hand, guard(hand), some(0, 6), "hm", some(10, 36)) == 0


def test_what_stands_in_the_prompt_is_not_counted(hand):
    finder = guard(hand, prompt="quote this: " + some(0, 20))
    assert first_copy(hand, finder, some(0, 20)) is None
    assert first_copy(hand, finder, some(0, 33)) == 0


def test_short_references_are_not_guarded(hand):
    assert first_copy(hand, guard(hand, reference=some(0, 31)), some(0, 31)) is None
    assert first_copy(hand, guard(hand, reference=some(0, 32)), some(0, 32)) == 0


def test_chinese_is_compared_by_characters(hand):
    text = "春江潮水连海平海上明月共潮生滟滟随波千万里何处春江无月明江流宛转绕芳甸"
    finder = guard(hand, reference=text)
    assert first_copy(hand, finder, "先想一想", text[4:17]) == 1
    assert first_copy(hand, finder, "先想一想", text[4:16]) is None


def test_off_is_off(hand):
    group, _ = hand.Bench(reference=SENTENCE).group([hand.thought(-1.0)])
    assert first_copy(hand, CopyGuard(group, OFF), SENTENCE) is None
