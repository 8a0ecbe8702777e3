"""How token ids read in OpenAI's log-prob lists."""

from hypothesis import given
from hypothesis import strategies as st

from opera_service.pipelines.token_text import TokenText
from opera_service.scoring.tree import as_ids
from opera_service.trajectories.byte_tokenizer import ByteTokenizer

TOKENIZER = ByteTokenizer()


def test_ids_that_read_the_same_get_names_of_their_own():
    # Ids beyond the tokenizer's (padding rows of a model) have no text.
    text = TokenText(TOKENIZER, as_ids([97, 300]))
    assert text.named(0, {97: -1.0, 300: -2.0, 301: -3.0}) == {"a": -1.0, "": -2.0, "token_id:301": -3.0}
    assert text.named(1, {300: -1.0, 301: -2.0, 97: -3.0}) == {"": -1.0, "token_id:301": -2.0, "a": -3.0}


def test_no_ids_are_no_text():
    text = TokenText(TOKENIZER, as_ids([]))
    assert (text.text, text.tokens, text.offsets) == ("", [], [])


@given(st.text(max_size=20))
def test_offsets_say_where_in_the_text_a_token_starts(written: str):
    text = TokenText(TOKENIZER, TOKENIZER.encode(written))
    assert text.text == written
    starts = [
        len(TOKENIZER.decode(TOKENIZER.encode(written)[:at]).rstrip("\ufffd")) for at in range(len(text.tokens))
    ]
    for offset, start, token in zip(text.offsets, starts, text.tokens, strict=True):
        if not token.startswith("bytes:"):
            assert offset == start
            assert written[offset:].startswith(token)
