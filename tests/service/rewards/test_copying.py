"""The copy guard sees through disguises, and leaves answers alone, in English, Chinese and code."""

import pytest

from opera_service.check import edits
from opera_service.rewards.copying import CopyConfig, CopyGuard, content_words, normalised

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


def test_short_references_are_not_guarded():
    assert not CopyGuard("Mount Everest in Nepal", "", CopyConfig()).copied("Mount Everest in Nepal")


def test_words_are_compared_as_a_reader_sees_them():
    assert normalised("Ｆｕｌｌ wi\u00addth co-operate") == "full width cooperate"
    assert content_words("the 12 cats_of 北京大学") == {"12": 1, "cats": 1, "北京": 1, "京大": 1, "大学": 1}
