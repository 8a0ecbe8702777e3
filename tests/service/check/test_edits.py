"""Edits keep what they promise to keep, in English, Chinese and code."""

import pytest

from opera_service.check import edits

TEXTS = [
    "Plants need light. They turn it into sugar, and sugar feeds the whole plant!",
    "植物需要阳光。它们把光变成糖，糖养活整株植物。",
    "Use a set:\n\n```python\nseen = set(second)\n```\n",
]


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_lose_nothing(text: str) -> None:
    assert "".join(edits.pieces(text)) == text


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("edit", [edits.swapped_runs, edits.reordered, edits.shuffled])
def test_moving_words_keeps_them(text: str, edit: edits.Edit) -> None:
    assert sorted(edits.word_list(edit(text))) == sorted(edits.word_list(text))


@pytest.mark.parametrize("text", TEXTS)
def test_hiding_keeps_what_the_eye_sees(text: str) -> None:
    assert edits.zero_width(text).replace(edits.ZERO_WIDTH, "") == text
    assert edits.hyphenated(text).replace("-", "") == text
    assert len(edits.homoglyphs(text)) == len(text)


def test_every_fourth_word_is_changed() -> None:
    assert edits.changed("one two three four, five", 4) == "one two three thing, five"


def test_fillers_come_between_the_words_of_the_text() -> None:
    words = edits.word_list(edits.with_fillers(TEXTS[0]))
    left = iter(words)
    assert all(word in left for word in edits.word_list(TEXTS[0]))


def test_keywords_are_new_words_in_order() -> None:
    assert edits.keywords("Plants need bright light, bright light", "What do plants need?") == "bright, light"


def test_a_falsified_text_has_the_shape_of_the_first_and_words_of_the_second() -> None:
    text = edits.falsified("Every morning the baker opens the little bakery", "Volcanoes throw melted rocks")
    assert len(edits.word_list(text)) == 8
    assert {"melted", "rocks"} & set(edits.word_list(text)) or "Volcanoes" in text
