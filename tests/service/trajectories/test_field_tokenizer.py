"""A text that cannot fit is refused by its beginning; one that can is read as it always was."""

import pytest

from opera_client.errors import ContextTooLong, InvalidRequest
from opera_client.wire import Message
from opera_service.trajectories.field_tokenizer import CHARACTERS, SLACK, FieldTokenizer

LIMIT = 100
AT_ONCE = CHARACTERS * (LIMIT + SLACK)


class Counting:
    """A tokenizer that notes how many characters it was given."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        self.read = 0

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)

    def encode(self, text):
        self.read += len(text)
        return self._tokenizer.encode(text)

    def encode_inside(self, text):
        self.read += len(text)
        return self._tokenizer.encode_inside(text)


@pytest.fixture
def fields(qwen_like) -> FieldTokenizer:
    return FieldTokenizer(Counting(qwen_like), 450, LIMIT)


@pytest.mark.parametrize("way", ["text", "start", "tokens", "prompt", "messages"])
def test_only_the_beginning_of_a_hopeless_text_is_read(fields, way):
    text = "the answer is twenty. " * 50_000
    asked = {
        "text": lambda: fields.text(text, "f"),
        "start": lambda: fields.start(text, None, "f"),
        "tokens": lambda: fields.tokens(text, None, "f"),
        "prompt": lambda: fields.prompt(text, None, "f"),
        "messages": lambda: fields.prompt([Message(role="user", content=text)], None, "f"),
    }[way]
    with pytest.raises(
        ContextTooLong, match=rf"first {AT_ONCE} of {len(text)} characters are \d+ tokens"
    ) as caught:
        asked()
    assert caught.value.field == "f"
    assert fields.tokenizer.read == AT_ONCE


def test_a_text_of_long_tokens_is_read_whole(fields, qwen_like):
    text = "<|endoftext|>" * (LIMIT + 10)
    assert len(text) > AT_ONCE
    assert fields.text(text, "f").tolist() == [qwen_like.encode("<|endoftext|>")[0]] * (LIMIT + 10)
    assert fields.tokenizer.read == AT_ONCE + len(text)
    with pytest.raises(ContextTooLong, match=f"first {2 * AT_ONCE} of"):  # it looked twice as far
        fields.text(text * 2, "f")


def test_what_cannot_be_read_is_told_before_what_is_too_long(fields):
    with pytest.raises(InvalidRequest, match="half of a character"):
        fields.text("a b " * 50_000 + "\ufdd0", "f")
