import pytest
from hypothesis import given
from hypothesis import strategies as st

from opera_service.trajectories.encoding_config import ThinkConfig
from opera_service.trajectories.think import find_thought, prompt_thought

RULES = ThinkConfig()


def parts(response: str, *, opened: bool = False) -> tuple[str, str, set[str]]:
    """Thought, answer and flags of a response."""
    raw = response.encode()
    thought = find_thought(raw, RULES, prompt="open" if opened else "unopened")
    return raw[thought.start : thought.end].decode(), raw[thought.answer :].decode(), set(thought.flags)


@pytest.mark.parametrize(
    ("response", "thought", "answer", "flags"),
    [
        ("<think>a\n\nb</think>\n\nyes", "a\n\nb", "yes", set()),
        ("<think>a\r\n</think>\r\n\r\nyes\r\n", "a\r\n", "yes\r\n", set()),
        ("Sure. <think>a</think> yes", "a", "yes", set()),
        ("<think>a</think>\u3000\u00a0是", "a", "是", set()),
        ("just this", "", "just this", {"think_missing"}),
        ("a</think>yes", "a", "yes", {"think_unopened"}),
        ("</think>yes", "", "yes", {"think_unopened", "empty_think"}),
        ("a</think>b<think>c</think>d", "a", "b<think>c</think>d", {"think_unopened", "think_repeated"}),
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


HEADER = b"<|start|>assistant\n"


@pytest.mark.parametrize(
    ("prompt", "state"),
    [
        ("assistant\n<think>", "open"),
        ("assistant\n<think>\r\n\u3000", "open"),
        ("Write <think> before you think.", "unopened"),
        ("Put your thought into <think> and </think>", "unopened"),
        ("assistant\n<think>\n\n</think>\n\n", "closed"),
        ("", "unopened"),
        ("<|start|>assistant\n<think>\nTwelve and", "open"),
        ("<|start|>assistant\n<think>\nTwelve.\n</think>\n\n", "closed"),
        ("<|start|>assistant\n<think>\nTwelve.\n</think>\n\nIt is", "closed"),
        ("<|start|>assistant\n<think>old</think>yes<|start|>user\nno<|start|>assistant\n", "unopened"),
        ("<|start|>assistant\n<think>old</think>yes<|start|>user\nno<|start|>assistant\n<think>\n", "open"),
        ("<|start|>assistant\nSure. ", "unopened"),
    ],
)
def test_what_the_prompt_did_about_the_block(prompt, state):
    assert prompt_thought(prompt.encode(), RULES, HEADER) == state


@pytest.mark.parametrize(
    ("response", "answer", "flags"),
    [
        ("yes", "yes", {"think_in_prompt"}),
        ("\n yes", "yes", {"think_in_prompt"}),
        ("", "", {"think_in_prompt", "empty_answer"}),
        ("<think>a</think>b", "<think>a</think>b", {"think_in_prompt", "think_repeated"}),
    ],
)
def test_behind_a_block_that_the_prompt_closed_all_is_answer(response, answer, flags):
    thought = find_thought(response.encode(), RULES, prompt="closed")
    assert thought.start == thought.end == 0
    assert (response.encode()[thought.answer :].decode(), set(thought.flags)) == (answer, flags)


def test_a_lone_closing_tag_is_text_where_that_is_asked_for():
    assert find_thought(b"a</think>yes", RULES, lone_close=False).flags == ("think_missing",)


def test_where_a_block_begins():
    assert find_thought(b"Sure. <think>a</think>b", RULES).block_start == 6
    assert find_thought(b"a</think>b", RULES).block_start == 0
    assert find_thought(b"a</think>b", RULES, prompt="open").block_start == 0


def test_other_tags():
    rules = ThinkConfig(open="[THINK]", close="[/THINK]")
    raw = b"[THINK]a[/THINK]b<think>"
    thought = find_thought(raw, rules)
    assert (raw[thought.start : thought.end], raw[thought.answer :], thought.flags) == (b"a", b"b<think>", ())
    assert prompt_thought(b"x[THINK]\n", rules, b"") == "open"


@given(
    st.lists(st.sampled_from(["<think>", "</think>", "a", "\n", " ", "é", "\r\n"]), max_size=12).map("".join),
    st.booleans(),
)
def test_offsets_are_in_order_and_frame_the_tags(response, opened):
    raw = response.encode()
    thought = find_thought(raw, RULES, prompt="open" if opened else "unopened")
    assert 0 <= thought.start <= thought.end <= thought.close_end <= thought.answer <= len(raw)
    assert raw[thought.end : thought.close_end] == (b"</think>" if thought.closed else b"")
    assert not raw[thought.close_end : thought.answer].strip()
    assert b"</think>" not in raw[thought.start : thought.end]
    if not opened and not {"think_missing", "think_unopened"} & set(thought.flags):
        assert raw[: thought.start].endswith(b"<think>")
        assert raw.find(b"<think>") == thought.start - len(b"<think>")
