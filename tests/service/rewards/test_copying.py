"""The copy guard sees through disguises, and leaves answers alone, in English, Chinese and code."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opera_service.check import edits
from opera_service.rewards import copying
from opera_service.rewards.copying import (
    UNGUARDED,
    CopyConfig,
    CopyGuard,
    content_words,
    longest_common,
    normalised,
)

CASES = {
    "english": (
        "Why does bread dough rest?",
        "Kneading stretches the gluten until it is tight. Resting lets the strands relax, gives the yeast time to "
        "make bubbles, and builds flavour.",
        "After you work it, dough is tense; a pause makes it soft, and meanwhile the yeast produces gas.",
    ),
    "chinese": (
        "为什么会下雨？",
        "太阳把海洋里的水晒热，水变成水汽升到空中，高处寒冷，水汽凝结成细小的水滴，聚在一起就是云。",
        "因为水受热蒸发，到了天上遇冷变成小水珠，水珠太重就掉下来。",
    ),
    "code": (
        "How do I count words?",
        "from collections import Counter\nwords = text.lower().split()\nresult = Counter(words)\n"
        "print(result.most_common(number))",
        "Split the string and add one per entry in a dictionary.",
    ),
}
DISGUISES = {
    "verbatim": str,
    "capitals": str.upper,
    "fillers": edits.with_fillers,
    "hyphens": edits.hyphenated,
    "invisible characters": edits.zero_width,
    "lookalike letters": edits.homoglyphs,
    "every fourth word changed": lambda text: edits.changed(text, 4),
    "shuffled": edits.shuffled,
    "sentences reordered": edits.reordered,
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("disguise", DISGUISES)
def test_a_disguised_copy_is_found(case, disguise):
    if (case, disguise) in (("chinese", "shuffled"), ("chinese", "every fourth word changed")):
        pytest.skip("pairs of neighbouring characters do not survive it")
    prompt, reference, _ = CASES[case]
    assert CopyGuard(reference, prompt, CopyConfig()).copied(DISGUISES[disguise](reference))


@pytest.mark.parametrize("case", CASES)
def test_an_honest_answer_is_no_copy(case):
    prompt, reference, answer = CASES[case]
    guard = CopyGuard(reference, prompt, CopyConfig())
    assert guard.active
    assert not guard.copied(answer)


def test_what_the_prompt_says_is_no_leak():
    reference = CASES["english"][1]
    assert not CopyGuard(reference, reference, CopyConfig()).active


def test_each_measure_finds_what_the_others_miss():
    prompt, reference, _ = CASES["english"]
    guard = CopyGuard(reference, prompt, CopyConfig())
    half, changed, mixed = edits.half(reference), edits.changed(reference, 4), edits.shuffled(reference)
    assert [guard.coverage(one) >= 0.6 for one in (half, changed, mixed)] == [False, True, True]
    assert [guard.alignment(one) >= 0.7 for one in (half, changed, mixed)] == [False, True, False]
    assert [guard.quotation(one) >= 0.5 for one in (half, changed, mixed)] == [True, False, False]


def test_a_text_that_follows_the_prompt_is_no_copy_of_the_reference():
    wrong = "she go to school every day by bus and meet there the friends of her since long time ago"
    right = wrong.replace("go ", "goes ").replace("since", "for a").replace("friends of her", "friends she likes")
    guard = CopyGuard(right, f"Correct this: {wrong}", CopyConfig(min_words=1))
    assert not guard.copied(wrong)
    assert (guard.alignment(wrong), guard.quotation(wrong)) == (0, 0)


@pytest.mark.parametrize("measure", ["coverage", "aligned", "quoted"])
def test_each_measure_can_be_switched_off(measure):
    prompt, reference, _ = CASES["english"]
    others = dict.fromkeys({"coverage", "aligned", "quoted"} - {measure}, None)
    assert CopyGuard(reference, prompt, CopyConfig(**others)).copied(reference)
    assert not CopyGuard(reference, prompt, UNGUARDED).copied(reference)


def test_a_few_quoted_words_are_no_copy():
    prompt, reference, _ = CASES["english"]
    guard = CopyGuard(reference, prompt, CopyConfig())
    assert guard.quotation("Kneading stretches the gluten until it is tight.") == 0
    assert not guard.copied("Kneading stretches the gluten until it is tight.")


@given(st.text("ab中", max_size=9), st.text("ab中", max_size=9))
def test_the_longest_common_subsequence_by_definition(left, right):
    @cache
    def longest(at, other):
        if at == len(left) or other == len(right):
            return 0
        if left[at] == right[other]:
            return 1 + longest(at + 1, other + 1)
        return max(longest(at + 1, other), longest(at, other + 1))

    assert longest_common(left, right) == longest(0, 0)


def test_short_references_are_not_guarded():
    assert not CopyGuard("Mount Everest in Nepal", "", CopyConfig()).copied("Mount Everest in Nepal")


def test_words_are_compared_as_a_reader_sees_them():
    assert normalised("Ｆｕｌｌ wi\u00addth co-operate") == "full width cooperate"
    assert content_words("the 12 cats_of 北京大学") == {"12": 1, "cats": 1, "北京": 1, "京大": 1, "大学": 1}


def test_a_text_is_compared_with_a_reference_once(monkeypatch):
    prompt, reference, answer = CASES["english"]
    answer += " Said once."  # no other test asks about it
    read: list[str] = []

    def reading(text: str) -> str:
        read.append(text)
        return normalised(text)

    monkeypatch.setattr(copying, "normalised", reading)
    for _ in range(3):  # as terms of a sum do, each with a guard of its own
        assert not CopyGuard(reference, prompt, CopyConfig()).copied(answer)
    assert read.count(answer) == 1
    once = len(read)
    assert not CopyGuard(reference, prompt, CopyConfig()).copied(answer)
    assert len(read) == once


def test_verdicts_of_other_references_prompts_and_rules_are_others():
    prompt, reference, _ = CASES["english"]
    for _ in range(2):
        assert CopyGuard(reference, prompt, CopyConfig()).copied(reference)
        assert not CopyGuard(CASES["code"][1], prompt, CopyConfig()).copied(reference)
        assert not CopyGuard(reference, reference, CopyConfig()).copied(reference)
        assert not CopyGuard(reference, prompt, CopyConfig(min_words=100)).copied(reference)
