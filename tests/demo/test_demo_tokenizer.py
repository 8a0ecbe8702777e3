"""The packaged tokenizer and a freshly built one: reversible on any text, and cut where segments are."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import ByteLevel

from opera_demo.corpus import documents, prompt
from opera_demo.tokenizer import build
from opera_demo.world import tasks

TASKS = tasks("test", 20)


@pytest.fixture(params=["packaged", "built"], scope="module")
def tokenizer(request):
    if request.param == "packaged":
        return request.getfixturevalue("packaged_tokenizer")
    return build("".join(span.text for span in spans) for spans in itertools.islice(documents(seed=1), 400))


def encode(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_any_text_survives_encoding(tokenizer):
    @given(st.text())
    def survives(text):
        ids = encode(tokenizer, text)
        assert tokenizer.decode(ids) == text
        assert all(0 <= token < len(tokenizer) for token in ids)

    survives()


def test_every_single_byte_has_a_token(tokenizer):
    assert set(ByteLevel.alphabet()) <= set(tokenizer.get_vocab())


def test_a_paragraph_end_is_one_token(tokenizer):
    tokens = tokenizer.tokenize("<think>\nIt is 9.\n\nSo 9.\n</think>\n\nThe")
    ends = [tokenizer.convert_tokens_to_string([token]) for token in tokens]
    assert [end for end in ends if "\n" in end] == ["\n", ".\n\n", ".\n", "\n\n"]


def test_documents_tokenise_the_same_whole_and_piece_by_piece(tokenizer):
    for spans in itertools.islice(documents(seed=3), 300):
        pieces = [token for span in spans for token in encode(tokenizer, span.text)]
        assert pieces == encode(tokenizer, "".join(span.text for span in spans))


def test_the_chat_template_is_the_corpus_format(tokenizer):
    for task in TASKS:
        messages = [{"role": "user", "content": task.question}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert text == prompt(task.question)


def test_a_finished_conversation_ends_with_the_end_of_turn(tokenizer):
    messages = [{"role": "system", "content": "a"}, {"role": "assistant", "content": "b"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert text == "<|im_start|>system\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"


def test_think_tags_are_single_tokens_that_decoding_keeps(tokenizer):
    ids = encode(tokenizer, "<|im_start|><think></think><|im_end|><|endoftext|>")
    assert len(ids) == 5
    assert tokenizer.decode(ids, skip_special_tokens=True) == "<think></think>"
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.pad_token == "<|endoftext|>"


def test_numbers_of_the_world_are_single_tokens(tokenizer):
    assert all(len(encode(tokenizer, f" {number}")) == 1 for number in range(21))


def test_the_same_texts_build_the_same_tokenizer():
    texts = [prompt(task.question) + task.reference for task in TASKS]
    first, again = (build(texts).backend_tokenizer.to_str() for _ in range(2))
    assert first == again
