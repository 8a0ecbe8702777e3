"""A vLLM that serves, and a second, frozen model on torch beside it: log-ratios against transformers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from math import exp
from statistics import fmean

import numpy as np
import pytest
import pytest_asyncio
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from opera_client import AsyncRewardClient

from .conftest import Policy

pytestmark = pytest.mark.asyncio(loop_scope="module")
NATS = 1e-4
PROMPT = "<|im_start|>user\nWhat is 17 + 25?<|im_end|>\n<|im_start|>assistant\n"
RESPONSES = [
    "<think>\n17 + 25 is 32.\n\nWait, 7 + 5 carries.\n\nSo 42 it is.</think>\n\nThe answer is 42.<|im_end|>",
    "<think>The sea is grey and the harbour empty.\n\nHmm, let me check it.\n\n</think>42",
    "<think>\nbutter\n\n</think>\n\nSeven.",
]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Policy, Policy]:
    """Two sets of weights with one tokenizer, of bytes."""
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE({one: at for at, one in enumerate(alphabet)}, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    raw.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in ("<think>", "</think>")])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>")
    tokenizer.chat_template = TEMPLATE
    folder = tmp_path_factory.mktemp("pair")
    made = Policy.make(folder / "after", seed=11), Policy.make(folder / "before", seed=12)
    for one in made:
        tokenizer.save_pretrained(one.path)
    return made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(
    pair: tuple[Policy, Policy], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[AsyncRewardClient]:
    served, second = pair
    vllm = {"max_model_len": 2048, "enforce_eager": True, "max_num_batched_tokens": 1024}
    async with AsyncRewardClient.in_process(
        engine="vllm", model=str(served.path), second_model=str(second.path), dtype="float32", vllm=vllm,
        policy_root=str(served.path.parent), cache_mb=0, route_measure_s=0,
    ) as one:  # fmt: skip
        yield one


def group(responses=RESPONSES, **changes):
    messages = [{"role": "user", "content": "What is 17 + 25?"}]
    return {"prompt": messages, "trajectories": [{"response": text} for text in responses], **changes}


def ratios(pair: tuple[Policy, Policy], response: str) -> np.ndarray:
    """log p - log p of the second model, token by token."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(pair[0].path)
    context = tokenizer(PROMPT, add_special_tokens=False).input_ids
    ids = np.asarray([*context, *tokenizer(response, add_special_tokens=False).input_ids])
    served, second = (one.logprobs(ids, len(context)) for one in pair)
    return served - second


async def test_implicit_prm(client, pair):
    config = {"pay": "steps", "steps": "tokens", "beta": 1.0}
    for _ in range(2):  # cold, then from vLLM's cache
        answer = await client.reward([group()], reward="implicit_prm", preset="paper", config=config)
        for text, one in zip(RESPONSES, answer.groups[0].trajectories, strict=True):
            expected = ratios(pair, text)
            assert np.abs(expected).mean() > 0.1
            assert one.token_rewards == pytest.approx(expected, abs=2 * NATS)
            assert one.components["mean_log_ratio"] == pytest.approx(expected.mean(), abs=NATS)
    assert (answer.model.engine, answer.second_model.engine) == ("vllm", "torch")
    assert (answer.model.name, answer.second_model.name) == ("after", "before")
    assert answer.second_model == (await client.model()).second_model


async def test_prl_and_selfie(client, pair):
    found = [ratios(pair, text) for text in RESPONSES]
    config = {"step_tokens": 5, "eta": 10.0}
    shaped = await client.reward([group()], reward="prl", preset="paper", config=config)
    for expected, one in zip(found, shaped.groups[0].trajectories, strict=True):
        for at, value in enumerate(one.token_rewards):
            last = min((at // 5 + 1) * 5, len(expected)) - 1
            assert value == pytest.approx(-expected[last:].sum() / 10.0, abs=len(expected) * NATS / 10)
    preferred = await client.reward([group()], reward="selfie")
    means = [np.clip(one, -5, 5).mean() for one in found]
    for at, reward in enumerate(preferred.rewards[0]):
        others = [1 / (1 + exp(-10 * (means[at] - other))) for k, other in enumerate(means) if k != at]
        assert reward == pytest.approx(fmean(others), abs=30 * NATS)


async def test_a_sum_with_entropies_and_references_asks_each_model_once(client, pair):
    terms = [{"name": "logprob"}, {"name": "implicit_prm", "weight": 2.0}, {"name": "rent"}]
    asked = group(reference="It is 42.")
    apart = [(await client.reward([asked], reward=term["name"])).rewards[0] for term in terms]
    answer = await client.reward([asked], rewards=terms)
    expected = np.array(apart[0]) + 2 * np.array(apart[1]) + np.array(apart[2])
    assert answer.rewards[0] == pytest.approx(expected.tolist(), abs=3 * NATS)


async def test_a_member_alone_and_one_that_does_not_fit(client, pair):
    long = "<think>\n" + "x" * 3000 + "</think>\n\n42"
    answer = await client.reward([group([RESPONSES[1], long])], reward="implicit_prm")
    kept, refused = answer.groups[0].trajectories
    assert refused.error.code == "context_too_long"
    assert kept.reward == pytest.approx(0.05 * np.clip(ratios(pair, RESPONSES[1]), -5, 5).mean(), abs=NATS)


async def test_new_weights_move_the_served_model_and_not_the_second(client, pair):
    second = (await client.model()).second_model
    await client.load_policy(str(pair[1].path), "same")
    try:
        answer = await client.reward([group()], reward="implicit_prm", preset="paper")
        assert answer.rewards[0] == pytest.approx([0.0] * 3, abs=0.05 * 100 * NATS)
        assert answer.model.weight_version == "same"
        assert answer.second_model == second
    finally:
        await client.load_policy(str(pair[0].path), "0-again")
    answer = await client.reward([group()], reward="implicit_prm", preset="paper")
    sums = [0.05 * ratios(pair, text).sum() for text in RESPONSES]
    assert answer.rewards[0] == pytest.approx(sums, abs=0.05 * 100 * NATS)
