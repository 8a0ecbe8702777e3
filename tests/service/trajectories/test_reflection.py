import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from opera_service.trajectories.encoding_config import ReflectionConfig
from opera_service.trajectories.reflection import AUTHORS, _any_of, is_reflective, without_markers

HARDENED = ReflectionConfig()
PAPER = ReflectionConfig(languages=("authors",), match="substring", where="anywhere")
ANYWHERE = ReflectionConfig(where="anywhere")


@pytest.mark.parametrize("text", ["I like butter.", "The waiter contributes.", "an ATTRIBUTE", "awaiting"])
def test_the_released_rule_is_fooled_by_substrings_and_ours_is_not(text):
    assert is_reflective(text, PAPER)
    assert not is_reflective(text, HARDENED)
    assert not is_reflective(text, ANYWHERE)


@pytest.mark.parametrize("word", AUTHORS)
def test_all_five_words_of_the_released_list_count_in_any_case(word):
    assert is_reflective(f"so {word.upper()} x", PAPER)
    assert is_reflective(f"{word.lower()}, x", ReflectionConfig(languages=("authors",)))


def test_the_released_list_has_nothing_else():
    assert not is_reflective("Alternatively, let me think. 等等", PAPER)


@pytest.mark.parametrize(
    "text",
    [
        "Wait, no.",
        "wait... no",
        "It is 5. But is it?",
        'It is 5."  But is it?',
        "It is 5!\nHowever, no.",
        "> **Wait**, no",
        "- Hmm, no",
        "* _But_ no",
        "### Wait",
        "1. Wait, no",
        "3.But no",
        "2) “But no",
        "(a) But no",
        "“Hold on,” I think.",
        "…wait",
        "Hmmmm.",
        "Let's double-check the sum.",
        "Let\u2019s double-check the sum.",
        "let  me rethink",
        "Ｗａｉｔ, no",
        "Oh, wait. No.",
        "等等，不是。",
        "答案是五。不对，重算。",
        "对吗？不对！",
        "好！但这里错了",
        "「等一下」",
        "讓我再檢查。",
    ],
)
def test_reflection_at_the_start_of_a_sentence(text):
    assert is_reflective(text, HARDENED)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "It is not small but large.",
        "We wait for the bus.",
        "Wait-list the user.",
        "Buttons are blue.",
        "Waiting is fine.",
        "Let me write this down.",
        "不对称的矩阵很难。",
        "但愿如此。",
        "不但好，而且便宜。",
        "苹果、梨等等都行。",
        "wait_for(x) blocks.",
    ],
)
def test_no_reflection_at_the_start_of_a_sentence(text):
    assert not is_reflective(text, HARDENED)


def test_position_can_be_anywhere():
    assert is_reflective("It is not small but large.", ANYWHERE)
    assert is_reflective("这个但那个", ANYWHERE)
    assert not is_reflective("非但如此", ANYWHERE)


def test_languages_choose_the_lists():
    assert not is_reflective("等等", ReflectionConfig(languages=("en",)))
    assert not is_reflective("Hmm, wait", ReflectionConfig(languages=("zh",)))
    assert not is_reflective("Wait, but hmm. 等等", ReflectionConfig(languages=()))


def test_added_words_follow_the_same_rules():
    rules = ReflectionConfig(languages=(), words=("  Moment mal ", "待って", "?!"))
    assert is_reflective("Moment  mal, nein.", rules)
    assert not is_reflective("Moment malt", rules)
    assert not is_reflective("Ein Moment mal", rules)
    assert is_reflective("待ってください", rules)
    assert is_reflective("?!", rules)


def test_substrings_at_the_start():
    rules = ReflectionConfig(match="substring")
    assert is_reflective("Butter is good.", rules)
    assert not is_reflective("Good butter.", rules)


def test_an_empty_added_word_is_refused():
    with pytest.raises(ValidationError):
        ReflectionConfig(words=(" ",))


@pytest.mark.parametrize("unit", ["。", "!", "\n>", '."', "* ", ". ", "! 等", "- 1. "])
def test_long_runs_of_marks_are_read_in_linear_time(unit):
    assert not is_reflective(unit * 200_000, HARDENED)


LETTERS = st.text(alphabet="ab.( 等", min_size=1, max_size=5).map(str.strip).filter(bool)


@given(words=st.lists(LETTERS, min_size=1, max_size=12), text=st.text(alphabet="ab.( 等\n", max_size=20))
def test_a_tree_of_letters_finds_what_a_list_of_words_finds(words, text):
    plain = "|".join(r"\s+".join(map(re.escape, word.split())) for word in words)
    for place in range(len(text) + 1):
        assert bool(re.compile(_any_of(words)).match(text, place)) == bool(re.compile(plain).match(text, place))
    border = r"(?!a)"  # what must follow decides between words of which one begins the other
    assert bool(re.search(_any_of(words) + border, text)) == bool(re.search(f"(?:{plain}){border}", text))


@pytest.mark.parametrize("where", ["anywhere", "start"])
@pytest.mark.parametrize("match", ["word", "substring"])
def test_the_longest_list_and_a_long_text_are_read_in_time(match, where):
    words = tuple(f"{number:03}" + "a" * 97 for number in range(256))
    rules = ReflectionConfig(words=words, match=match, where=where)
    text = "aaa 00a " * 50_000
    started = time.process_time()
    assert not is_reflective(text, rules)
    assert time.process_time() - started < 5


@pytest.mark.parametrize("words", [["w"] * 257, ["w" * 101], [" "], [3]])
def test_lists_that_are_too_long_are_refused(words):
    with pytest.raises(ValidationError):
        ReflectionConfig(words=words)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Wait, the sum is nine.", "The sum is nine."),
        ("Hmm. But the sum is nine.", "The sum is nine."),
        ("It was ten. Actually, it is nine.", "It was ten. It is nine."),
        ("等等，答案是九。", "答案是九。"),
        ("I wait for the bus, but it is late.", "I wait for the bus, but it is late."),
        ("Let me think about soap.", "Let me think about soap."),
    ],
)
def test_a_paragraph_can_be_read_without_its_markers(text, left):
    assert without_markers(text, HARDENED).strip(" .") == left.strip(" .")


def test_saying_that_one_thinks_is_no_reflection():
    assert not is_reflective("Let me think.", HARDENED)
