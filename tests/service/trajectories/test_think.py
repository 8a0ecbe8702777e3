import pytest
from hypothesis import given
from hypothesis import strategies as st

from opera_service.trajectories.encoding_config import ThinkConfig
from opera_service.trajectories.think import find_thought, opens_thought

RULES = ThinkConfig()


def parts(response: str, *, opened: bool = False) -> tuple[str, str, set[str]]:
    """Thought, answer and flags of a response."""
    raw = response.encode()
    thought = find_thought(raw, RULES, opened=opened)
    return raw[thought.start : thought.end].decode(), raw[thought.answer :].decode(), set(thought.flags)


@pytest.mark.parametrize(
    ("response", "thought", "answer", "flags"),
    [
        ("<think>a\n\nb</think>\n\nyes", "a\n\nb", "yes", set()),
        ("<think>a\r\n</think>\r\n\r\nyes\r\n", "a\r\n", "yes\r\n", set()),
        ("Sure. <think>a</think> yes", "a", "yes", set()),
        ("<think>a</think>\u3000\u00a0是", "a", "是", set()),
        ("just this", "", "just this", {"think_missing"}),
        ("a</think>yes", "", "a</think>yes", {"think_missing"}),
        ("", "", "", {"think_missing", "empty_answer"}),
        ("<think>a, b", "a, b", "", {"think_unclosed", "empty_answer"}),
        ("<think>", "", "", {"think_unclosed", "empty_think", "empty_answer"}),
        ("<think>\n \u3000\n</think>yes", "\n \u3000\n", "yes", {"empty_think"}),
        ("<think>a</think>\n", "a", "", {"empty_answer"}),
        ("<think>a</think>b<think>c</think>d", "a", "b<think>c</think>d", {"think_repeated"}),
        ("<think>a<think>b</think>c</think>d", "a<think>b", "c</think>d", {"think_repeated"}),
        ("<think>a</think>b</think>c", "a", "b</think>c", {"think_repeated"}),
        ("<think><thinking></think>x", "<thinking>", "x", set()),
    ],
)
def test_the_first_block_counts(response, thought, answer, flags):
    assert parts(response) == (thought, answer, flags)


@pytest.mark.parametrize(
    ("response", "thought", "answer", "flags"),
    [
        ("a\n\nb\n</think>\n\nyes", "a\n\nb\n", "yes", set()),
        ("a", "a", "", {"think_unclosed", "empty_answer"}),
        ("</think>yes", "", "yes", {"empty_think"}),
        ("\n<think>a</think>yes", "a", "yes", {"think_repeated"}),
        ("a <think> b</think>yes", "a <think> b", "yes", {"think_repeated"}),
        ("a</think>b<think>c", "a", "b<think>c", {"think_repeated"}),
    ],
)
def test_a_prompt_that_opened_the_block(response, thought, answer, flags):
    assert parts(response, opened=True) == (thought, answer, flags)


def test_only_a_tag_at_the_very_end_of_the_prompt_opens_the_block():
    assert opens_thought(b"assistant\n<think>", RULES)
    assert opens_thought("assistant\n<think>\r\n\u3000".encode(), RULES)
    assert not opens_thought(b"Write <think> before you think.", RULES)
    assert not opens_thought(b"assistant\n<think>\n\n</think>\n\n", RULES), "a template that switches thinking off"
    assert not opens_thought(b"", RULES)


def test_other_tags():
    rules = ThinkConfig(open="[THINK]", close="[/THINK]")
    raw = b"[THINK]a[/THINK]b<think>"
    thought = find_thought(raw, rules, opened=False)
    assert (raw[thought.start : thought.end], raw[thought.answer :], thought.flags) == (b"a", b"b<think>", ())
    assert opens_thought(b"x[THINK]\n", rules)


@given(
    st.lists(st.sampled_from(["<think>", "</think>", "a", "\n", " ", "é", "\r\n"]), max_size=12).map("".join),
    st.booleans(),
)
def test_offsets_are_in_order_and_frame_the_tags(response, opened):
    raw = response.encode()
    thought = find_thought(raw, RULES, opened=opened)
    assert 0 <= thought.start <= thought.end <= thought.close_end <= thought.answer <= len(raw)
    assert raw[thought.end : thought.close_end] == (b"</think>" if thought.closed else b"")
    assert not raw[thought.close_end : thought.answer].strip()
    assert b"</think>" not in raw[thought.start : thought.end]
    if not opened and "think_missing" not in thought.flags:
        assert raw[: thought.start].endswith(b"<think>")
        assert raw.find(b"<think>") == thought.start - len(b"<think>")
