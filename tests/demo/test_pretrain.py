"""Making a model: a handful of steps end in files that load, and a seed is a model."""

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from opera_demo.card import checksum
from opera_demo.corpus import Span
from opera_demo.pretrain import IGNORED, architecture, batches, encode, make, train, untrained


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    make(folder, seed=3, steps=4, count=4)
    return folder


@pytest.mark.slow  # trains
def test_a_few_steps_end_in_a_model_that_loads(made):
    model = AutoModelForCausalLM.from_pretrained(made)
    tokenizer = AutoTokenizer.from_pretrained(made)
    assert model.config.model_type == "qwen3"
    assert model.dtype == torch.bfloat16
    assert model.config.vocab_size == len(tokenizer)
    assert model.config.eos_token_id == model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.config.pad_token_id == tokenizer.pad_token_id
    assert 800_000 < sum(parameter.numel() for parameter in model.parameters()) < 1_000_000


@pytest.mark.slow
def test_the_card_states_its_weights(made):
    card = (made / "README.md").read_text(encoding="utf-8")
    assert checksum(made / "model.safetensors") in card
    assert "--seed 3 --steps 4" in card
    assert "carry no meaning" in card


@pytest.mark.slow
def test_a_seed_is_a_model(packaged_tokenizer):
    first, again, other = (trained(packaged_tokenizer, seed) for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["model.norm.weight"], other["model.norm.weight"])


def trained(vocabulary, seed):
    model = untrained(architecture(vocabulary), seed)
    train(model, vocabulary, steps=2, seed=seed)
    return model.state_dict()


@pytest.mark.slow
def test_training_lowers_the_loss_on_unseen_documents(packaged_tokenizer):
    ids, labels = next(batches(packaged_tokenizer, seed=99))

    def loss(model):
        with torch.inference_mode():
            logits = model.eval()(input_ids=ids).logits[:, :-1]
        return cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED).item()

    model = untrained(architecture(packaged_tokenizer), 0)
    before = loss(model)
    train(model, packaged_tokenizer, steps=6, seed=0)
    assert loss(model) < before - 0.3


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
