"""Small tokenizers of every family, trained here and now: nothing is downloaded."""

import json
from pathlib import Path

import pytest
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from opera_service.trajectories.byte_tokenizer import ByteTokenizer
from opera_service.trajectories.field_tokenizer import FieldTokenizer
from opera_service.trajectories.hf_tokenizer import HFTokenizer

PROSE = [
    "<think>\nLet me add the numbers. Twelve and seven make nineteen.\n\nWait, the second number is eight.\n\n",
    "So the answer is twenty.\n</think>\n\nThe answer is twenty, because twelve and eight make twenty.",
    "But the butter is in the kitchen, and the waiter is waiting. However, that is not the point.\r\n\r\n",
    "等等，让我再想一想。答案是二十。不对，应该是十九。\n\n因此，答案是二十。",
    "user\nWhat is 12 + 8? Please think aloud!\nassistant\n",
] * 4
QWEN_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% if message['role'] == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TAGS = [AddedToken(tag, special=False, normalized=False) for tag in ("<think>", "</think>")]


def byte_level(specials: list[str], *, tags: bool = True) -> Tokenizer:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(PROSE, trainer)
    if tags:
        bpe.add_tokens(TAGS)
    return bpe


def saved_and_loaded(fast: PreTrainedTokenizerFast, folder: Path) -> HFTokenizer:
    fast.save_pretrained(folder)
    return HFTokenizer.load(str(folder))


@pytest.fixture(scope="session")
def qwen_like(tmp_path_factory: pytest.TempPathFactory) -> HFTokenizer:
    """Byte-level BPE, think tags as added tokens, a chat template, no start token."""
    bpe = byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=CHAT
    )
    return saved_and_loaded(fast, tmp_path_factory.mktemp("qwen"))


@pytest.fixture(scope="session")
def llama_like(tmp_path_factory: pytest.TempPathFactory) -> HFTokenizer:
    """Byte-level BPE that puts a start token before every text, with think tags in several tokens."""
    bpe = byte_level(["<s>", "</s>"], tags=False)
    bpe.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    fast = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>")
    return saved_and_loaded(fast, tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def sentencepiece_like(tmp_path_factory: pytest.TempPathFactory) -> HFTokenizer:
    """BPE over ▁ with byte fallback and a prefix space, the layout of Llama 2 and Mistral."""
    bpe = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bpe.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{value:02X}>" for value in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=special, show_progress=False)
    bpe.train_from_iterator((text.replace(" ", "▁").replace("二", "") for text in PROSE), trainer)
    bpe.add_tokens(TAGS)
    fast = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    return saved_and_loaded(fast, tmp_path_factory.mktemp("sentencepiece"))


@pytest.fixture(scope="session")
def metaspace_like(tmp_path_factory: pytest.TempPathFactory) -> HFTokenizer:
    """Unigram over Metaspace, the layout of T5 and XLM-R; knows no emoji."""
    unigram = Tokenizer(models.Unigram())
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    unigram.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<unk>", "</s>"], unk_token="<unk>", show_progress=False
    )
    unigram.train_from_iterator(PROSE, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=unigram, eos_token="</s>", unk_token="<unk>")
    return saved_and_loaded(fast, tmp_path_factory.mktemp("metaspace"))


@pytest.fixture(scope="session")
def wordpiece_like(tmp_path_factory: pytest.TempPathFactory) -> HFTokenizer:
    """WordPiece in lower case, the layout of BERT: spaces and case are lost, `##` continues a word."""
    wordpiece = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    wordpiece.normalizer = normalizers.BertNormalizer()
    wordpiece.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    wordpiece.decoder = decoders.WordPiece(cleanup=False)
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]"]
    wordpiece.train_from_iterator(
        PROSE, trainers.WordPieceTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=wordpiece, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]"
    )
    return saved_and_loaded(fast, tmp_path_factory.mktemp("wordpiece"))


@pytest.fixture(scope="session")
def two_ends(tmp_path_factory: pytest.TempPathFactory) -> HFTokenizer:
    """Ends a turn with another token than a text, and lists both in its generation configuration."""
    bpe = byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|endoftext|>", pad_token="<|pad|>", chat_template=CHAT
    )
    folder = tmp_path_factory.mktemp("ends")
    ends = [bpe.token_to_id("<|endoftext|>"), bpe.token_to_id("<|im_end|>")]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    return saved_and_loaded(fast, folder)


def metaspace(scheme: str) -> HFTokenizer:
    """BPE over Metaspace, which puts a space before every text, the first text, or none."""
    bpe = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    bpe.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        + ([decoders.Strip(" ", 1, 0)] if scheme != "never" else [])
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{value:02X}>" for value in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=special, show_progress=False)
    bpe.train_from_iterator(PROSE, trainer)
    bpe.add_tokens(TAGS)
    return HFTokenizer(
        PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    )


def byte_level_with_prefix() -> HFTokenizer:
    """Byte-level BPE that puts a space before every text, the layout of RoBERTa."""
    bpe = byte_level(["<s>", "</s>"])
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return HFTokenizer(PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>"))


@pytest.fixture(scope="session")
def spaced_tokenizers(qwen_like: HFTokenizer, sentencepiece_like: HFTokenizer) -> dict[str, HFTokenizer]:
    schemes = {f"metaspace {scheme}": metaspace(scheme) for scheme in ("always", "first", "never")}
    return {**schemes, "prefix": byte_level_with_prefix(), "prepend": sentencepiece_like, "none": qwen_like}


@pytest.fixture(params=["metaspace always", "metaspace first", "metaspace never", "prefix", "prepend", "none"])
def spaced_tokenizer(request: pytest.FixtureRequest, spaced_tokenizers: dict[str, HFTokenizer]) -> HFTokenizer:
    """Every way to put a space before a text, and none."""
    return spaced_tokenizers[request.param]


@pytest.fixture(params=["qwen_like", "llama_like", "sentencepiece_like", "metaspace_like"])
def any_tokenizer(request: pytest.FixtureRequest) -> HFTokenizer:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def byte_reader() -> FieldTokenizer:
    """The byte tokenizer with a model of exactly its vocabulary and a long context."""
    tokenizer = ByteTokenizer()
    return FieldTokenizer(tokenizer, vocab_size=tokenizer.vocab_size, max_context=100_000)


@pytest.fixture(scope="session")
def qwen_reader(qwen_like: HFTokenizer) -> FieldTokenizer:
    return FieldTokenizer(qwen_like, vocab_size=512, max_context=100_000)
