from hypothesis import given
from hypothesis import strategies as st

from opera_service.trajectories.byte_tokenizer import END_ID, ByteTokenizer
from opera_service.trajectories.tokenizer import Tokenizer

tokenizer: Tokenizer = ByteTokenizer()


def test_bytes_and_marks_have_the_documented_ids():
    assert tokenizer.encode("a<think>\n</think>é<|end|>").tolist() == [97, 256, 10, 257, 0xC3, 0xA9, END_ID]
    assert tokenizer.vocab_size == 259
    assert tokenizer.encode("").tolist() == []


@given(st.text())
def test_decode_reverses_encode(text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.lists(st.integers(0, 258)))
def test_byte_ends_count_the_bytes(ids):
    ends = tokenizer.byte_ends(ids)
    assert [len(tokenizer.to_bytes(ids[: k + 1])) for k in range(len(ids))] == ends.tolist()


def test_broken_utf8_is_replaced_and_counted_as_it_is():
    assert tokenizer.decode([0xC3, 97]) == "\N{REPLACEMENT CHARACTER}a"
    assert tokenizer.byte_ends([0xC3, 97]).tolist() == [1, 2]


def test_only_the_end_of_turn_is_special():
    ids = tokenizer.encode("<think>x</think>y<|end|>")
    assert tokenizer.decode(ids, skip_special=True) == "<think>x</think>y"
    assert tokenizer.byte_ends(ids, skip_special=True).tolist() == [7, 8, 16, 17, 17]


def test_ids_beyond_the_vocabulary_have_no_text():
    assert tokenizer.decode([97, 300, -1]) == "a"


def test_chat_template():
    ids = tokenizer.chat([{"role": "user", "content": "hi"}])
    assert tokenizer.decode(ids) == "user: hi<|end|>\nassistant: "
