"""The committed weights: what they must be able to do, and that a random twin cannot."""

import re

import pytest

from opera_demo import model_path
from opera_demo.card import checksum
from opera_demo.evaluate import encoder, measure_answers, measure_prices, respond
from opera_demo.world import tasks

TASKS = tasks("test", 64, seed=11)  # not the card's draw


@pytest.fixture(scope="module")
def prices(packaged_model, packaged_tokenizer):
    return measure_prices(packaged_model, encoder(packaged_tokenizer), TASKS)


def test_sound_reasoning_prices_the_reference_above_unsound(prices):
    assert prices.auc >= 0.95
    for sound in ("right", "fix"):
        assert (
            prices.logprob[sound] > prices.logprob["none"] > max(prices.logprob["slip"], prices.logprob["spoil"])
        )


def test_mending_gains_and_mistakes_lose(prices):
    assert prices.gain["fix"] > 0.05
    assert prices.gain["step"] > 0
    assert prices.gain["slip"] < -0.05
    assert prices.gain["spoil"] < -0.05
    assert prices.gain["fix"] - prices.gain["slip"] > 0.3


def test_idle_thoughts_move_the_price_little(prices):
    assert abs(prices.gain["filler"]) < 0.15
    assert abs(prices.gain["confirm"]) < 0.1
    assert abs(prices.logprob["filler"] - prices.logprob["right"]) < 0.15


def test_a_random_twin_prices_nothing(twin, packaged_tokenizer):
    random = measure_prices(twin, encoder(packaged_tokenizer), TASKS)
    assert 0.4 < random.auc < 0.6
    assert abs(random.gain["fix"] - random.gain["slip"]) < 0.15


def test_it_answers_well_when_greedy_and_leaves_room_when_sampling(packaged_model, packaged_tokenizer):
    greedy = measure_answers(TASKS, respond(packaged_model, packaged_tokenizer, TASKS, sample=False))
    sampled = measure_answers(TASKS, respond(packaged_model, packaged_tokenizer, TASKS, sample=True))
    assert greedy.accuracy >= 0.9
    assert 0.25 <= sampled.accuracy <= 0.7
    assert sampled.reflective > 0.01


@pytest.mark.slow  # samples long stories
def test_it_can_tell_the_longest_stories_too(packaged_model, packaged_tokenizer):
    longest = tasks("test", 64, seed=11, tier="harder")
    greedy = measure_answers(longest, respond(packaged_model, packaged_tokenizer, longest, sample=False))
    assert greedy.accuracy >= 0.85
    assert measure_prices(packaged_model, encoder(packaged_tokenizer), longest).auc >= 0.95


def test_the_card_belongs_to_the_weights():
    card = (model_path() / "README.md").read_text(encoding="utf-8")
    assert re.search(r"model\.safetensors`: `([0-9a-f]{64})`", card)[1] == checksum(
        model_path() / "model.safetensors"
    )
    assert (model_path() / "model.safetensors").stat().st_size <= 3_000_000
