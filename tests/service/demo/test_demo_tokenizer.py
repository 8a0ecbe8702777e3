"""The packaged tokenizer: reversible on any text, and cut where segments are."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from opera_service.demo.corpus import documents, prompt
from opera_service.demo.world import tasks

TASKS = tasks("test", 20)


def encode(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_any_text_survives_encoding(packaged_tokenizer):
    @given(st.text())
    def survives(text):
        ids = encode(packaged_tokenizer, text)
        assert packaged_tokenizer.decode(ids) == text
        assert all(0 <= token < len(packaged_tokenizer) for token in ids)

    survives()


def test_every_single_byte_has_a_token(packaged_tokenizer):
    pieces = set(packaged_tokenizer.get_vocab())
    from tokenizers.pre_tokenizers import ByteLevel

    assert set(ByteLevel.alphabet()) <= pieces


def test_a_paragraph_end_is_one_token(packaged_tokenizer):
    tokens = packaged_tokenizer.tokenize("<think>\nIt is 9.\n\nSo 9.\n</think>\n\nThe")
    ends = [packaged_tokenizer.convert_tokens_to_string([token]) for token in tokens]
    assert [end for end in ends if "\n" in end] == ["\n", ".\n\n", ".\n", "\n\n"]


def test_documents_tokenise_the_same_whole_and_piece_by_piece(packaged_tokenizer):
    for spans in itertools.islice(documents(seed=3), 300):
        pieces = [token for span in spans for token in encode(packaged_tokenizer, span.text)]
        assert pieces == encode(packaged_tokenizer, "".join(span.text for span in spans))


def test_the_chat_template_is_the_corpus_format(packaged_tokenizer):
    for task in TASKS:
        messages = [{"role": "user", "content": task.question}]
        text = packaged_tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert text == prompt(task.question)


def test_a_finished_conversation_ends_with_the_end_of_turn(packaged_tokenizer):
    messages = [{"role": "system", "content": "a"}, {"role": "assistant", "content": "b"}]
    text = packaged_tokenizer.apply_chat_template(messages, tokenize=False)
    assert text == "<|im_start|>system\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"


def test_think_tags_are_single_tokens_that_decoding_keeps(packaged_tokenizer):
    ids = encode(packaged_tokenizer, "<|im_start|><think></think><|im_end|><|endoftext|>")
    assert len(ids) == 5
    assert packaged_tokenizer.decode(ids, skip_special_tokens=True) == "<think></think>"
    assert packaged_tokenizer.eos_token == "<|im_end|>"
    assert packaged_tokenizer.pad_token == "<|endoftext|>"


def test_numbers_of_the_world_are_single_tokens(packaged_tokenizer):
    assert all(len(encode(packaged_tokenizer, f" {number}")) == 1 for number in range(21))
