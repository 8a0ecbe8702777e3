"""Where a continuation stops, against a plain reading of its whole text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opera_service.scoring.tree import as_ids
from opera_service.trajectories.byte_tokenizer import ByteTokenizer
from opera_service.trajectories.stopping import StopTexts

TOKENIZER = ByteTokenizer()


def stops(*texts: str, context: str = "\n") -> StopTexts:
    return StopTexts(texts, TOKENIZER.encode(context), TOKENIZER)


def found(writer: StopTexts, text: str, *, ended: bool = False) -> tuple[str, str] | None:
    """The stop and the text that is kept."""
    stop = writer.find(TOKENIZER.encode(text), ended=ended)
    return None if stop is None else (stop.text, TOKENIZER.decode(TOKENIZER.encode(text)[: stop.kept]))


@pytest.mark.parametrize("text", ["Button", "A Button. ", "aBut ", "_But_ ", "But1", "éBut ", "Buté"])
def test_a_word_never_stops_inside_another_word(text: str):
    assert found(stops("But"), text, ended=True) is None


@pytest.mark.parametrize(
    ("text", "kept"), [("But ", ""), ("so. But no", "so. "), ("so (But)", "so ("), ("Button But.", "Button ")]
)
def test_a_whole_word_stops_before_itself(text: str, kept: str):
    assert found(stops("But"), text) == ("But", kept)


@pytest.mark.parametrize(("text", "kept"), [("9.\n\nSo", "9.\n\n"), ("\n\n\n\n", "\n\n"), ("9. But\n\n", "9. ")])
def test_a_stop_to_be_kept_is_kept_and_the_first_of_both_sorts_counts(text: str, kept: str):
    writer = StopTexts(["But"], TOKENIZER.encode("\n"), TOKENIZER, behind=["\n\n"])
    stop = writer.find(TOKENIZER.encode(text), ended=False)
    assert stop is not None
    assert TOKENIZER.decode(TOKENIZER.encode(text)[: stop.kept]) == kept
    assert writer.seen(TOKENIZER.encode(text))


def test_the_token_that_completes_a_kept_stop_is_kept_whole(any_tokenizer):
    ids = any_tokenizer.encode("It is 9.\n\nNow the rest")
    stop = StopTexts([], ids[:1], any_tokenizer, behind=["\n\n"]).find(ids[1:], ended=True)
    assert stop is not None
    kept, less = (any_tokenizer.decode(ids[: 1 + count]) for count in (stop.kept, stop.kept - 1))
    assert kept.endswith(".\n\n")
    assert "\n\n" not in less


def test_at_the_very_end_only_the_end_of_the_text_makes_a_whole_word():
    assert found(stops("But"), "so But") is None
    assert found(stops("But"), "so But", ended=True) == ("But", "so ")
    assert found(stops("\n\n"), "so\n\n") == ("\n\n", "so"), "no letter can follow that changes this"


def test_the_word_before_the_first_token_counts():
    assert found(stops("ton", context="But"), "ton ") is None
    assert found(stops("ton", context="But "), "ton ") == ("ton", "")


def test_a_stop_that_began_in_the_context_is_none():
    assert found(stops("\n\n", context="Wait\n"), "\nso") is None
    assert found(stops("\n\n", context="Wait\n"), "\n\nso") == ("\n\n", "")


def test_the_first_complete_stop_counts_and_of_several_the_longest():
    assert found(stops("b", "a b c"), "a b c ") == ("b", "a ")
    assert found(stops("wait", "no wait"), "oh no wait ") == ("no wait", "oh ")
    assert found(stops("x", "x"), "x ") == ("x", "")


def test_scripts_without_spaces_have_no_word_borders():
    assert found(stops("但是"), "好的但是我") == ("但是", "好的")


def test_marks_stop_too():
    assert found(stops("</think>"), "so</think>\n") == ("</think>", "so")


def test_broken_bytes_do_not_shift_the_cut():
    ids = [0xFF, 0xE7, *b"ok But ", 0xAD]
    stop = stops("But").find(ids, ended=False)
    assert stop is not None
    assert ids[: stop.kept] == [0xFF, 0xE7, *b"ok "]


def test_half_a_letter_behind_a_word_is_waited_for():
    whole = "But" + "é"
    ids = TOKENIZER.encode(whole)[:-1]
    assert stops("But").find(ids, ended=False) is None
    assert stops("é", context="é"[:1]).find(TOKENIZER.encode("é "), ended=False) is None


def test_ids_are_cut_between_tokens(any_tokenizer):
    ids = any_tokenizer.encode("It is so. But wait")
    stop = StopTexts(["But"], ids[:1], any_tokenizer).find(ids[1:], ended=True)
    assert stop is not None
    kept, more = (any_tokenizer.decode(ids[: 1 + count]) for count in (stop.kept, stop.kept + 1))
    before = any_tokenizer.decode(ids).partition("But")[0]
    assert before.startswith(kept), "nothing of the stop text is kept"
    assert len(more) > len(before), "the token that holds its first letter goes whole"


pieces = st.text(alphabet="aB ut\n.é但", max_size=30)


@given(
    text=pieces, texts=st.lists(st.sampled_from(["But", "ut", "a", "\n\n", "t B", "但"]), min_size=1, max_size=3)
)
def test_equal_to_reading_the_whole_text(text: str, texts: list[str]):
    letter = "[aButé]"
    ends = []
    for stop in texts:
        before = f"(?<!{letter})" if re.match(letter, stop[0]) else ""
        after = f"(?!{letter})" if re.match(letter, stop[-1]) else ""
        match = re.search(before + re.escape(stop) + after, text)
        if match:
            ends.append((match.end(), match.start(), stop))
    expected = (min(ends)[2], text[: min(ends)[1]]) if ends else None
    assert found(stops(*texts), text, ended=True) == expected


@given(text=pieces, texts=st.lists(st.sampled_from(["But", "ut", "\n\n", "a But"]), min_size=1, max_size=3))
def test_what_was_written_behind_the_stop_does_not_matter(text: str, texts: list[str]):
    """An engine may end as soon as `seen` says so, or any number of tokens later."""
    writer, ids = stops(*texts), TOKENIZER.encode(text).tolist()
    seen = [count for count in range(len(ids) + 1) if writer.seen(ids[:count])]
    whole = writer.find(ids, ended=False)
    assert (whole is not None) == bool(seen)
    if seen:
        assert {writer.find(ids[:count], ended=False) for count in seen} == {whole}
        assert seen == list(range(seen[0], len(ids) + 1))


def test_the_end_of_a_long_text_is_enough_to_see_a_stop():
    writer = stops("But")
    ids = as_ids([*b"x" * 5000, *b" But "]).tolist()
    assert writer.seen(ids)
    assert not writer.seen(ids[:-1])
    assert not writer.seen([*b"x" * 5000, *b"But "])
    inside_a_word = [*b"x" * 5000, *b"But ", *b"y" * 200]
    for count in range(5000, len(inside_a_word)):
        assert not writer.seen(inside_a_word[:count]), "wherever the window begins"


def test_no_stop_texts_stop_nothing():
    assert not stops().seen([*b"But "])
    assert found(stops(), "But ") is None
