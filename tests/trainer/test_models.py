"""Models on disk: what is saved is loaded again in the base's precision; an untrained twin is untrained."""

import torch
from transformers import AutoConfig

from opera_demo import model_path
from opera_trainer import models


def test_the_demo_is_the_embedded_model():
    assert models.base("demo") == str(model_path())
    assert models.base("org/name") == "org/name"


def test_weights_are_saved_in_the_precision_of_their_origin(tmp_path):
    model, tokenizer = models.load(models.base("demo"))
    assert model.dtype == torch.float32
    models.save(model, tokenizer, model_path(), tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).dtype == torch.bfloat16
    again, vocabulary = models.load(tmp_path)
    first = models.load(models.base("demo"))[0]
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), first.parameters(), strict=True))
    assert vocabulary.chat_template == tokenizer.chat_template


def test_weights_have_the_mode_of_the_files_beside_them(tmp_path):
    model, tokenizer = models.load(models.base("demo"))
    models.save(model, tokenizer, model_path(), tmp_path)
    assert len({file.stat().st_mode for file in tmp_path.iterdir()}) == 1


def test_an_untrained_twin_depends_on_the_seed_only(tmp_path):
    folders = [models.untrained(model_path(), seed, tmp_path / str(place)) for place, seed in enumerate((0, 0, 1))]
    one, same, other = (models.load(folder)[0].lm_head.weight for folder in folders)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    base = models.load(models.base("demo"))[0]
    assert base.lm_head.weight.shape == one.shape
    assert not torch.equal(base.lm_head.weight, one)


def moved(by):
    """The embedded model, each weight changed by a random sign times `by` of itself."""
    model, tokenizer = models.load(models.base("demo"))
    signs = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1 + by * (torch.randint(0, 2, weight.shape, generator=signs) * 2 - 1))
    return model, tokenizer


def test_changes_that_bfloat16_cannot_hold_are_written_in_float32(tmp_path):
    model, tokenizer = moved(3e-4)
    assert models.kept(model, model_path(), torch.bfloat16) < 0.5
    models.save(model, tokenizer, model_path(), tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).dtype == torch.float32
    again = models.load(tmp_path)[0]
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))


def test_changes_that_it_can_hold_stay_in_the_precision_of_the_origin(tmp_path):
    model, tokenizer = moved(0.05)
    assert models.kept(model, model_path(), torch.bfloat16) > 0.99
    models.save(model, tokenizer, model_path(), tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).dtype == torch.bfloat16
