"""Making a model: a handful of steps end in files that load, and a seed is a model."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from opera_service.demo.card import checksum
from opera_service.demo.corpus import Span
from opera_service.demo.pretrain import IGNORED, batches, encode, make


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    make(folder, seed=3, steps=4, count=4)
    return folder


def test_a_few_steps_end_in_a_model_that_loads(made):
    model = AutoModelForCausalLM.from_pretrained(made)
    tokenizer = AutoTokenizer.from_pretrained(made)
    assert model.config.model_type == "qwen3"
    assert model.dtype == torch.bfloat16
    assert model.config.vocab_size == len(tokenizer)
    assert model.config.eos_token_id == model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.config.pad_token_id == tokenizer.pad_token_id
    assert 800_000 < sum(parameter.numel() for parameter in model.parameters()) < 1_000_000


def test_the_card_states_its_weights(made):
    card = (made / "README.md").read_text(encoding="utf-8")
    assert checksum(made / "model.safetensors") in card
    assert "--seed 3 --steps 4" in card
    assert "carry no meaning" in card


def test_the_same_seed_makes_the_same_weights_and_another_seed_others(made, tmp_path):
    make(tmp_path / "again", seed=3, steps=4, count=4)
    make(tmp_path / "other", seed=4, steps=4, count=4)
    first = checksum(made / "model.safetensors")
    assert checksum(tmp_path / "again" / "model.safetensors") == first
    assert checksum(tmp_path / "other" / "model.safetensors") != first


def test_batches_are_one_document_a_row(packaged_tokenizer):
    ids, labels = next(batches(packaged_tokenizer, seed=0))
    start, end = packaged_tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    assert ids.shape == labels.shape
    for row, wanted in zip(ids.tolist(), labels.tolist(), strict=True):
        document = [token for token in row if token != packaged_tokenizer.pad_token_id]
        assert row[: len(document)] == document
        assert document[0] == start
        assert document[-1] == end
        assert document.count(start) == 2
        assert all(label in (IGNORED, token) for token, label in zip(row, wanted, strict=True))
        assert set(wanted[len(document) :]) <= {IGNORED}


def test_only_learnt_spans_have_labels(packaged_tokenizer):
    ids, labels = encode(packaged_tokenizer, [Span("The shop", False), Span(" has", True)])
    assert labels == [IGNORED] * (len(ids) - 1) + ids[-1:]
