"""Texts that came with a trajectory's ids and do not say what the ids say are flagged."""

import pytest

from opera_client.wire import Trajectory

from .test_encode_turns import encode, masked


@pytest.mark.parametrize(
    ("shown", "differs"),
    [
        (None, False),
        ("call<|end|>\ntool: 42<|end|>\nassistant: yes<|end|>\ntool: late", False),
        ("call tool: 42 assistant: yes", False),
        ("call\n\nyes", False),
        ("call", True),
        ("call 42 no", True),
        ("callyes and more", True),
    ],
)
def test_a_text_beside_a_mask_that_says_something_else_is_flagged(byte_reader, shown, differs):
    pieces = [(1, "call<|end|>"), (0, "\ntool: 42<|end|>\nassistant: "), (1, "yes"), (0, "<|end|>\ntool: late")]
    trajectory = masked(byte_reader, *pieces).model_copy(update={"response": shown})
    one = encode(byte_reader, trajectory)
    assert ("text_ids_differ" in one.flags) == differs
    assert one.text == one.scored_text == "call<|end|>\n\nyes"


@pytest.mark.parametrize(("content", "differs"), [("call", False), ("c all", False), ("recall", True)])
def test_a_message_that_says_something_else_than_its_ids_is_flagged(byte_reader, content, differs):
    ids = [
        byte_reader.tokenizer.encode_inside(text).tolist() for text in ("<think>a</think>call<|end|>", "42", "b")
    ]
    roles = ("assistant", "tool", "assistant")
    said = [{"role": role, "token_ids": own} for role, own in zip(roles, ids, strict=True)]
    said[0]["content"] = content
    assert ("text_ids_differ" in encode(byte_reader, Trajectory(turns=said)).flags) == differs
