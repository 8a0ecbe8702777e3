import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from opera_client.errors import InvalidRequest, NotFound, NotSupported
from opera_service.trajectories.hf_tokenizer import HFTokenizer

RESPONSE = "<think>\nWait, twelve.\n\nBut é😀 等等\r\n\r\n</think>\n\nThe answer."


def backend(tokenizer: HFTokenizer) -> Tokenizer:
    """The tokenizer's own encoder and decoder, which ours is compared with."""
    return tokenizer.loaded.backend_tokenizer


@pytest.mark.parametrize("name", ["qwen_like", "llama_like"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text())
def test_byte_level_bpe_reproduces_any_text(name, request, text):
    tokenizer = request.getfixturevalue(name)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.byte_ends(ids)[-1:].tolist() == [len(text.encode())][: len(ids)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_ids_decode_as_the_tokenizer_itself_does(any_tokenizer, data):
    ids = data.draw(st.lists(st.integers(0, any_tokenizer.vocab_size - 1), max_size=20))
    raw = any_tokenizer.to_bytes(ids)
    ends = any_tokenizer.byte_ends(ids)
    assert ends.dtype == np.int64
    assert ends.tolist() == [len(any_tokenizer.to_bytes(ids[: k + 1])) for k in range(len(ids))]
    if "\N{REPLACEMENT CHARACTER}" not in any_tokenizer.decode(ids):
        assert raw.decode() == backend(any_tokenizer).decode(ids, skip_special_tokens=False)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet=st.sampled_from(list(" \n\r\tWait,.<think>/ab等é😀")), max_size=30))
def test_byte_ends_are_where_incremental_decoding_says(any_tokenizer, text):
    ids = any_tokenizer.encode(text).tolist()
    ends = any_tokenizer.byte_ends(ids)
    for k in range(1, len(ids) + 1):
        prefix = backend(any_tokenizer).decode(ids[:k], skip_special_tokens=False)
        if "\N{REPLACEMENT CHARACTER}" not in prefix:
            assert ends[k - 1] == len(prefix.encode())


def test_a_character_split_over_tokens_is_counted_byte_by_byte(qwen_like):
    ids = qwen_like.encode("a😀b")
    assert len(ids) == 6
    assert qwen_like.byte_ends(ids).tolist() == [1, 2, 3, 4, 5, 6]
    assert qwen_like.decode(ids[:3]) == "a\N{REPLACEMENT CHARACTER}"


def test_byte_level_added_tokens_decode_as_the_tokenizer_itself_does():
    bpe = Tokenizer(models.BPE(vocab={"a": 0}, merges=[]))
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    bpe.add_tokens(["<｜begin▁of｜>", "<a b>", "<Ġx>"])
    tokenizer = HFTokenizer(PreTrainedTokenizerFast(tokenizer_object=bpe))
    ids = [1, 0, 2, 3]
    assert tokenizer.decode(ids) == bpe.decode(ids) == "<｜begin▁of｜>a<a b>< x>"
    assert tokenizer.byte_ends(ids).tolist() == [18, 19, 24, 28]


def test_no_start_token_is_ever_added(llama_like):
    ours = llama_like.encode("The answer")
    assert backend(llama_like).encode("The answer").ids == [0, *ours]
    assert llama_like.bos_id == 0
    assert llama_like.encode("<s>The answer").tolist() == [0, *ours], "written in the text, it is recognised"


def test_a_start_token_is_put_before_texts_only_where_the_tokenizer_does(
    qwen_like, llama_like, sentencepiece_like
):
    assert (qwen_like.bos_id, qwen_like.start_ids) == (None, ())
    assert (sentencepiece_like.bos_id, sentencepiece_like.start_ids) == (1, ())
    assert (llama_like.bos_id, llama_like.start_ids) == (0, (0,))


def test_every_end_that_is_listed_somewhere_is_one(two_ends):
    assert two_ends.decode([two_ends.turn_end_id]) == "<|im_end|>", "as the template ends a turn"
    assert two_ends.decode([two_ends.eos_id]) == "<|endoftext|>", "as the tokenizer ends a text"
    assert two_ends.end_ids == {two_ends.turn_end_id, two_ends.eos_id}
    assert two_ends.closing_ids - two_ends.end_ids == {two_ends.pad_id}


def test_padding_that_is_an_ordinary_token_is_text(qwen_like):
    fast = PreTrainedTokenizerFast(tokenizer_object=backend(qwen_like))
    fast.pad_token = "!"
    assert HFTokenizer(fast).pad_id not in HFTokenizer(fast).closing_ids


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    parts=st.lists(
        st.sampled_from(
            ["The answer", " a", "\n\n", "</think>\n\n", "<think>\n", "Wait,", "</think>", "b", "\n a", "é"]
        ),
        min_size=1,
        max_size=6,
    )
)
def test_pieces_joined_read_as_the_texts_joined(spaced_tokenizer, parts):
    first, *rest = parts
    start = spaced_tokenizer.encode(first)
    ids = np.concatenate([start, *(spaced_tokenizer.encode_inside(part) for part in rest)])
    assert spaced_tokenizer.decode(ids) == spaced_tokenizer.decode(start) + "".join(rest)


def test_special_tokens_are_skipped_on_request_and_think_tags_are_not(qwen_like):
    ids = qwen_like.encode("<think>a</think>b<|im_end|>")
    assert qwen_like.decode(ids, skip_special=True) == "<think>a</think>b"
    assert qwen_like.byte_ends(ids, skip_special=True).tolist() == [7, 8, 16, 17, 17]


def test_the_prefix_space_of_sentencepiece_is_no_text(sentencepiece_like, metaspace_like):
    for tokenizer in (sentencepiece_like, metaspace_like):
        ids = tokenizer.encode("The answer")
        assert tokenizer.to_bytes(ids) == b"The answer"
        again = np.concatenate([ids, ids])
        assert tokenizer.to_bytes(again) == b"The answer The answer"


def test_a_text_may_start_with_a_character_split_over_byte_tokens(sentencepiece_like):
    ids = [backend(sentencepiece_like).token_to_id(f"<0x{value:02X}>") for value in "é ".encode()]
    assert sentencepiece_like.to_bytes(ids) == "é ".encode()
    assert sentencepiece_like.byte_ends(ids).tolist() == [1, 2, 3]


def test_the_prefix_space_after_a_skipped_special_token_is_no_text(sentencepiece_like):
    ids = [1, *sentencepiece_like.encode("The")]
    assert sentencepiece_like.decode(ids, skip_special=True) == "The"
    assert sentencepiece_like.byte_ends(ids, skip_special=True)[-1] == 3


def test_ids_past_the_vocabulary_have_no_text(any_tokenizer):
    ids = any_tokenizer.encode("Wait").tolist()
    padded = [*ids, any_tokenizer.vocab_size, any_tokenizer.vocab_size + 1, 10**6]
    assert any_tokenizer.decode(padded) == any_tokenizer.decode(ids)
    assert any_tokenizer.byte_ends(padded)[-1] == any_tokenizer.byte_ends(ids)[-1]


def test_chat_uses_the_models_own_template(qwen_like):
    messages = [{"role": "user", "content": "hi"}]
    assert qwen_like.decode(qwen_like.chat(messages)) == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert qwen_like.chat(messages)[0] == 1
    assert qwen_like.chat_template is not None


def test_a_refused_or_missing_template_says_what_to_do(qwen_like, llama_like):
    with pytest.raises(InvalidRequest, match=r"no tools here.*give the prompt as text or token ids"):
        qwen_like.chat([{"role": "tool", "content": "x"}])
    with pytest.raises(InvalidRequest, match="give the prompt as text or token ids"):
        llama_like.chat([{"role": "user", "content": "x"}])


def test_decoders_that_rewrite_text_are_refused():
    wordpiece = Tokenizer(models.WordPiece(vocab={"a": 0, ".": 1, "!": 2, "no": 3, "[UNK]": 4}, unk_token="[UNK]"))
    wordpiece.pre_tokenizer, wordpiece.decoder = pre_tokenizers.Whitespace(), decoders.CTC(pad_token="a")
    with pytest.raises(NotSupported, match="byte-level BPE or SentencePiece"):
        HFTokenizer(PreTrainedTokenizerFast(tokenizer_object=wordpiece, unk_token="[UNK]"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet=st.sampled_from(list(" \n,.The answer等é😀")), max_size=30))
def test_wordpiece_reads_as_its_own_decoder_says(wordpiece_like, text):
    ids = wordpiece_like.encode(text)
    assert wordpiece_like.decode(ids) == backend(wordpiece_like).decode(ids.tolist(), skip_special_tokens=False)
    assert wordpiece_like.byte_ends(ids)[-1:].tolist() == [len(wordpiece_like.to_bytes(ids))][: len(ids)]


def test_wordpiece_knows_no_line_breaks(wordpiece_like):
    assert wordpiece_like.decode(wordpiece_like.encode("The answer\n\nThe")) == "the answer the"


def test_nothing_to_load_is_one_clear_error(tmp_path):
    with pytest.raises(NotFound, match="no tokenizer could be loaded") as told:
        HFTokenizer.load(str(tmp_path))
    assert "\n" not in told.value.message


def test_saved_and_loaded_is_what_transformers_loads(qwen_like, tmp_path):
    qwen_like.loaded.save_pretrained(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    ours = HFTokenizer.load(str(tmp_path))
    assert ours.encode(RESPONSE).tolist() == theirs(RESPONSE, add_special_tokens=False)["input_ids"]


def test_eight_threads_share_a_tokenizer_while_transformers_truncates_and_pads(qwen_like):
    expected = qwen_like.encode(RESPONSE).tolist()
    start = threading.Barrier(9)

    def encode() -> bool:
        start.wait()
        return all(
            qwen_like.encode(RESPONSE).tolist() == expected and qwen_like.decode(expected) == RESPONSE
            for _ in range(300)
        )

    def disturb() -> bool:
        start.wait()
        for _ in range(300):
            qwen_like.loaded([RESPONSE, "x"], truncation=True, max_length=4, padding=True)
        return True

    with ThreadPoolExecutor(9) as pool:
        jobs = [pool.submit(encode) for _ in range(8)] + [pool.submit(disturb)]
        assert all(job.result() for job in jobs)
    # Other tests ask the same object what transformers itself would say.
    qwen_like.loaded.backend_tokenizer.no_truncation()
    qwen_like.loaded.backend_tokenizer.no_padding()
