"""A second, frozen model beside the served one: its numbers, against float64 transformers, and what is refused."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from math import exp
from pathlib import Path
from statistics import fmean

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken
from transformers import AutoModelForCausalLM, AutoTokenizer

from opera_client import AsyncRewardClient
from opera_client.errors import NotSupported
from opera_service.audit.entries import SECOND
from opera_service.audit.export import export
from opera_service.audit.store import Window, groups, open_for_reading

PROMPT = "<|im_start|>user\nWhat is 17 + 25?<|im_end|>\n<|im_start|>assistant\n"
MESSAGES = [{"role": "user", "content": "What is 17 + 25?"}]
RESPONSES = [
    "<think>\n17 + 25 is 32, or so it seems to me.\n\nWait, that is not right: 7 + 5 carries.\n\n"
    "So 42 it is, I am quite sure.</think>\n\nThe answer is 42.<|im_end|>",
    "<think>The sea is grey and the harbour empty.\n\nHmm, maybe not; let me check it again.\n\n</think>42",
    "<think>\nbutter\n\n</think>\n\nSeven.",
]
NATS = 2e-5
BETA = 0.05
Ratios = Callable[[str], tuple[list[int], np.ndarray]]


def group(responses=RESPONSES, **changes):
    return {"prompt": MESSAGES, "trajectories": [{"response": text} for text in responses], **changes}


@pytest.fixture(scope="session")
def other_qwen(tiny_qwen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same tokens and shape, other weights."""
    folder = tmp_path_factory.mktemp("other") / "qwen"
    shutil.copytree(tiny_qwen, folder)
    torch.manual_seed(7)
    moved = {
        name: tensor + 0.05 * torch.randn_like(tensor)
        for name, tensor in load_file(tiny_qwen / "model.safetensors").items()
    }
    save_file(moved, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def ratios(tiny_qwen: Path, other_qwen: Path, hf_tokenizer) -> Ratios:
    """ids of a response and log p - log p of the second model, token by token, in float64."""
    models = [
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
        for folder in (tiny_qwen, other_qwen)
    ]

    @torch.no_grad()
    def of(response: str) -> tuple[list[int], np.ndarray]:
        context = hf_tokenizer(PROMPT, add_special_tokens=False).input_ids
        ids = hf_tokenizer(response, add_special_tokens=False).input_ids
        found = []
        for model in models:
            every = torch.log_softmax(model(torch.tensor([context + ids])).logits[0], dim=-1)
            found.append(every[len(context) - 1 : -1][torch.arange(len(ids)), torch.tensor(ids)].numpy())
        return ids, found[0] - found[1]

    return of


@asynccontextmanager
async def service(model: Path, second: Path | None, **more) -> AsyncIterator[AsyncRewardClient]:
    settings = {"engine": "torch", "model": str(model), "dtype": "float32", "device": "cpu", "route_measure_s": 0}
    named = {} if second is None else {"second_model": str(second), "second_device": "cpu"}
    async with AsyncRewardClient.in_process(**settings, **named, **more) as client:
        yield client


@pytest.fixture
async def client(tiny_qwen: Path, other_qwen: Path) -> AsyncIterator[AsyncRewardClient]:
    async with service(tiny_qwen, other_qwen) as one:
        yield one


async def test_the_whole_response_is_worth_beta_times_its_log_ratio(client, ratios):
    answer = await client.reward([group()], reward="implicit_prm", preset="paper")
    for text, one in zip(RESPONSES, answer.groups[0].trajectories, strict=True):
        ids, expected = ratios(text)
        assert one.reward == pytest.approx(BETA * expected.sum(), abs=NATS)
        assert one.components["log_ratio"] == pytest.approx(expected.sum(), abs=len(ids) * NATS)
        assert one.components["mean_log_ratio"] == pytest.approx(expected.mean(), abs=NATS)
        assert abs(expected.mean()) > 50 * NATS
        assert one.token_rewards is None
    assert answer.groups[0].initial_mean_logprob is None


async def test_prime_pays_every_token(client, ratios):
    config = {"pay": "steps", "steps": "tokens"}
    answer = await client.reward([group()], reward="implicit_prm", preset="paper", config=config)
    for text, one in zip(RESPONSES, answer.groups[0].trajectories, strict=True):
        ids, expected = ratios(text)
        assert one.reward == 0
        assert one.token_rewards == pytest.approx(BETA * expected, abs=NATS)
        assert one.components["steps"] == len(ids)
        assert one.components["least_step"] == pytest.approx(BETA * expected.min(), abs=NATS)


async def test_paragraphs_are_paid_at_their_last_token_and_the_worst_one_ranks(client, ratios, hf_tokenizer):
    steps = await client.reward([group()], reward="implicit_prm", preset="paper", config={"pay": "steps"})
    worst = await client.reward([group()], reward="implicit_prm", preset="paper", config={"pay": "least_step"})
    pairs = zip(RESPONSES, steps.groups[0].trajectories, worst.groups[0].trajectories, strict=True)
    for text, one, least in pairs:
        ids, expected = ratios(text)
        ends = [at for at, value in enumerate(one.token_rewards) if value]
        pieces = np.split(expected, [end + 1 for end in ends])
        assert len(ends) == one.components["steps"]
        assert ends[-1] == len(ids) - 1
        assert len(pieces[-1]) == 0
        own = [BETA * piece.sum() for piece in pieces[:-1]]
        assert [one.token_rewards[end] for end in ends] == pytest.approx(own, abs=NATS)
        assert least.reward == pytest.approx(min(own), abs=NATS)
    # Where the steps end: behind the blank lines, then where the thought closes, then at the very end.
    first = [at + 1 for at, value in enumerate(steps.groups[0].trajectories[0].token_rewards) if value]
    ids = ratios(RESPONSES[0])[0]
    texts = [hf_tokenizer.decode(ids[start:end]) for start, end in pairwise([0, *first])]
    assert [text.strip().split()[0] for text in texts] == ["<think>", "Wait,", "So", "</think>"]


async def test_hardened_clips_tokens_and_takes_their_mean(client, ratios):
    config = {"clip": 0.05}
    answer = await client.reward([group()], reward="implicit_prm", config=config)
    clipped = 0
    for text, one in zip(RESPONSES, answer.groups[0].trajectories, strict=True):
        expected = ratios(text)[1]
        clipped += int((np.abs(expected) > 0.05).sum())
        assert one.reward == pytest.approx(BETA * np.clip(expected, -0.05, 0.05).mean(), abs=NATS)
    assert clipped > 3
    unclosed = await client.reward([group(["<think>\nno end", RESPONSES[1]])], reward="implicit_prm")
    bad, good = unclosed.groups[0].trajectories
    assert (bad.reward, "format_gate" in bad.flags) == (-1.0, True)
    assert good.reward > -1


@pytest.mark.parametrize("size", [1, 7, 256])
async def test_prl_takes_from_a_step_what_the_rest_departs(client, ratios, size):
    config = {"step_tokens": size, "eta": 10.0}
    answer = await client.reward([group()], reward="prl", preset="paper", config=config)
    for text, one in zip(RESPONSES, answer.groups[0].trajectories, strict=True):
        ids, expected = ratios(text)
        assert one.reward == 0
        assert one.components["steps"] == -(-len(ids) // size)
        for at, value in enumerate(one.token_rewards):
            last = min((at // size + 1) * size, len(ids)) - 1
            assert value == pytest.approx(-sum(expected[last:]) / 10.0, abs=len(ids) * NATS)
    whole = await client.reward([group()], reward="prl", preset="paper", config={"steps": "turns", "eta": 1.0})
    for text, one in zip(RESPONSES, whole.groups[0].trajectories, strict=True):
        assert one.token_rewards == pytest.approx([-ratios(text)[1][-1]] * len(one.token_rewards), abs=NATS)


async def test_selfie_is_the_mean_chance_to_be_preferred(client, ratios):
    answer = await client.reward([group()], reward="selfie", preset="paper")
    sums = [ratios(text)[1].sum() for text in RESPONSES]
    for at, one in enumerate(answer.groups[0].trajectories):
        chances = [1 / (1 + exp(-0.1 * (sums[at] - other))) for k, other in enumerate(sums) if k != at]
        assert one.reward == pytest.approx(fmean(chances), abs=NATS)
    assert sum(answer.rewards[0]) == pytest.approx(len(RESPONSES) / 2)
    malformed = [*RESPONSES[1:], "<think>\nno end"]
    one, other, bad = (await client.reward([group(malformed)], reward="selfie")).rewards[0]
    assert bad == 0
    assert one + other == pytest.approx(1)
    lone = (await client.reward([group(RESPONSES[:1])], reward="selfie")).groups[0]
    assert lone.trajectories[0].reward == 0.5
    assert "at least two responses" in lone.message


async def test_both_models_are_named_and_both_are_billed(client, tiny_qwen, other_qwen):
    served = await client.model()
    assert (served.name, served.second_model.name) == (tiny_qwen.name, other_qwen.name)
    assert served.second_model.revision != served.revision
    alone = await client.reward([group()], reward="rent")
    both = await client.reward([group()], reward="implicit_prm")
    assert both.usage.tokens_computed == 2 * alone.usage.tokens_computed
    assert both.usage.scored_tokens == 2 * alone.usage.scored_tokens
    assert both.second_model == served.second_model
    assert alone.second_model is None
    needs = {one.name: one.needs for one in (await client.rewards()).rewards}
    assert needs["implicit_prm"] == ["second_model"]
    again = await client.reward([group()], reward="implicit_prm")
    assert again.usage.cache_hits == 1
    assert again.rewards == both.rewards


async def test_members_and_the_audit_log_name_both(tiny_qwen, other_qwen, tmp_path):
    log, out = tmp_path / "audit.db", tmp_path / "out.parquet"
    async with service(tiny_qwen, other_qwen, audit=str(log)) as client:
        second = (await client.model()).second_model
        asked = {"prompt": MESSAGES, "group_size": 2, "wait_s": 60, "reward": "selfie"}
        named = [{**asked, "response": RESPONSES[at], "group_id": "g", "member_id": str(at)} for at in (0, 1)]
        for one in await asyncio.gather(*map(client.member, named)):
            assert one.second_model == second
        alone = await client.member({**named[0], "reward": "rent", "group_size": 1})
        assert alone.second_model is None
    connection = open_for_reading(log)
    found = {group["reward"]: [group[name] for name in SECOND] for group, _ in groups(connection, Window())}
    assert found == {"selfie": [second.name, second.revision, second.weight_version], "rent": [None] * 3}
    export(connection, Window(), out)
    rows = pq.read_table(out).to_pylist()
    assert [one["second_revision"] for one in rows] == [second.revision, second.revision, None]


async def test_prl_pays_nothing_where_the_second_model_likes_the_text_better(tiny_qwen, other_qwen):
    """A policy that is not the served model could earn without end: by what that one hates, token by token."""
    config = {"eta": 0.01, "step_tokens": 1}
    async with service(other_qwen, tiny_qwen) as one, service(tiny_qwen, other_qwen) as other:
        for client in (one, other):
            free = await client.reward([group()], reward="prl", preset="paper", config=config)
            bounded = await client.reward([group()], reward="prl", config=config)
            pairs = list(zip(free.groups[0].trajectories, bounded.groups[0].trajectories, strict=True))
            for wild, tame in pairs:
                expected = np.clip(wild.token_rewards, -3.0, 0.0)
                assert tame.token_rewards == pytest.approx(expected, abs=NATS / config["eta"])
        assert max(max(map(abs, wild.token_rewards)) for wild, _ in pairs) > 3


async def test_a_sum_asks_both_models_once(client):
    terms = [{"name": "logprob"}, {"name": "implicit_prm", "weight": 2.0}, {"name": "rent"}]
    asked = group(reference="It is 42.")
    apart = [(await client.reward([asked], reward=term["name"])).rewards[0] for term in terms]
    answer = await client.reward([asked], rewards=terms)
    expected = np.array(apart[0]) + 2 * np.array(apart[1]) + np.array(apart[2])
    assert answer.rewards[0] == pytest.approx(expected.tolist(), abs=1e-5)


async def test_the_order_of_the_models_is_the_sign_and_a_model_against_itself_says_nothing(tiny_qwen, other_qwen):
    found = {}
    for name, pair in {
        "ab": (tiny_qwen, other_qwen),
        "ba": (other_qwen, tiny_qwen),
        "aa": (tiny_qwen, tiny_qwen),
    }.items():
        async with service(*pair) as client:
            found[name] = (await client.reward([group()], reward="implicit_prm", preset="paper")).rewards[0]
    assert found["ab"] == pytest.approx([-one for one in found["ba"]], abs=NATS)
    assert found["aa"] == [0.0, 0.0, 0.0]


async def test_new_weights_move_the_served_model_and_not_the_second(tiny_qwen, other_qwen):
    async with service(tiny_qwen, other_qwen) as client:
        before = (await client.reward([group()], reward="implicit_prm", preset="paper")).rewards[0]
        second = (await client.model()).second_model
        await client.push_weights(other_qwen / "model.safetensors", "1")
        after = (await client.reward([group()], reward="implicit_prm", preset="paper")).rewards[0]
        assert (await client.model()).second_model == second
    assert all(abs(one) > 100 * NATS for one in before)
    assert after == [0.0, 0.0, 0.0]


async def test_the_ratio_to_the_weights_before_a_push_is_the_scores_on_both_sides_of_it(
    tiny_qwen, other_qwen, ratios, hf_tokenizer
):
    """What docs/rewards/second-model.md says in place of such a second model."""
    ids = hf_tokenizer(RESPONSES[0], add_special_tokens=False).input_ids
    mask = [1] * 5 + [0] * 3 + [1] * (len(ids) - 8)
    item = {"context": MESSAGES, "target_token_ids": ids, "target_mask": mask}
    found = {}
    async with service(other_qwen, None) as client:
        for _ in range(2):
            answer = await client.score([item], detail="tokens")
            found[answer.model.weight_version] = answer.items[0].token_logprobs
            await client.push_weights(tiny_qwen / "model.safetensors", "1")
    expected = ratios(RESPONSES[0])[1]
    for counts, before, after, ratio in zip(mask, found["0"], found["1"], expected, strict=True):
        assert (before is None, after is None) == (not counts, not counts)
        if counts:
            assert after - before == pytest.approx(ratio, abs=NATS)


async def test_without_a_second_model_it_is_refused_and_told_how(tiny_qwen):
    async with service(tiny_qwen, None) as client:
        for asked in ({"reward": "implicit_prm"}, {"rewards": [{"name": "rent"}, {"name": "implicit_prm"}]}):
            with pytest.raises(NotSupported, match=r"implicit_prm .* --second-model"):
                await client.reward([group()], **asked)
        with pytest.raises(NotSupported, match="--second-model"):
            await client.member(
                {
                    "prompt": MESSAGES,
                    "response": RESPONSES[0],
                    "group_id": "g",
                    "member_id": "m",
                    "group_size": 2,
                    "reward": "implicit_prm",
                    "wait_s": 60,
                }
            )
        assert (await client.model()).second_model is None


async def test_a_model_with_other_tokens_is_refused_at_the_start(tiny_qwen, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(tiny_qwen, other)
    tokenizer = AutoTokenizer.from_pretrained(tiny_qwen)
    tokenizer.add_tokens([AddedToken("<answer>", special=False, normalized=False)])
    tokenizer.save_pretrained(other)
    async with service(tiny_qwen, other) as client:  # it knows one token more: no harm
        assert (await client.reward([group()], reward="implicit_prm", preset="paper")).rewards[0] == [0.0] * 3
    with pytest.raises(
        NotSupported, match=r"1 of \d+ differ, first '<answer>', which is \d+ here and nothing there"
    ):
        async with service(other, tiny_qwen) as client:
            await client.model()
