"""Rewards that shape tokens by right and wrong, against float64 transformers and their formulas written again."""

from __future__ import annotations

from collections import Counter
from math import exp, log
from statistics import fmean, median, stdev

import numpy as np
import pytest
import torch

from opera_client.errors import OutcomeUnavailable

PROMPT = "<|im_start|>user\nWhat is 17 + 25?<|im_end|>\n<|im_start|>assistant\n"
MESSAGES = [{"role": "user", "content": "What is 17 + 25?"}]
RIGHT, WRONG = (f"</think>\n\n\\boxed{{{number}}}<|im_end|>" for number in (42, 41))
RESPONSES = [
    f"<think>\n17 + 25 is 32, or so it seems to me.\n\nWait: 7 + 5 carries, so 42 it is.{RIGHT}",
    f"<think>The sea is grey and the harbour empty; maybe not, let me check it again.{WRONG}",
    f"<think>\nbutter, seven, five{RIGHT}",
    f"<think>\nI add the tens, I add the ones, and I carry what is left of them.{RIGHT}",
]
IS_RIGHT = [1.0, 0.0, 1.0, 1.0]
NATS = 2e-5


def group(responses=RESPONSES, **changes):
    found = {"prompt": MESSAGES, "task": "math", "reference": "42"}
    return {**found, "trajectories": [{"response": text} for text in responses], **changes}


@pytest.fixture(scope="session")
def policy(rows, hf_tokenizer):
    """log-probs and entropies of a response's own tokens, in float64."""

    def of(response: str) -> tuple[list[float], list[float]]:
        context = hf_tokenizer(PROMPT, add_special_tokens=False).input_ids
        ids = hf_tokenizer(response, add_special_tokens=False).input_ids
        every = rows(context + ids)[len(context) - 1 : -1]
        logprobs = every[torch.arange(len(ids)), torch.tensor(ids)]
        return logprobs.tolist(), (-(every.exp() * every).sum(-1)).tolist()

    return of


def grpo(outcomes):
    return [(one - fmean(outcomes)) / (stdev(outcomes) + 1e-6) for one in outcomes]


def changes(policy):
    """STEER's Omega, token by token, on the policy that sampled."""
    found = []
    for text, advantage in zip(RESPONSES, grpo(IS_RIGHT), strict=True):
        own = []
        for logprob, entropy in zip(*policy(text), strict=True):
            p = exp(logprob)
            own.append(abs(advantage / p * p * (1 - p) * (log(p) + entropy)))
        found.append(own)
    return found


async def test_steer_weighs_by_the_change_of_entropy(client, policy):
    answer = await client.reward([group()], reward="steer", preset="paper")
    omega = changes(policy)
    k = -log(0.8) / max(max(map(max, omega)), 0.02)
    for own, one, right in zip(omega, answer.groups[0].trajectories, IS_RIGHT, strict=True):
        assert one.token_weights == pytest.approx([exp(-k * value) for value in own], abs=NATS)
        assert (one.reward, one.components["outcome"]) == (0, right)
    weights = [value for one in answer.groups[0].trajectories for value in one.token_weights]
    assert (min(weights), max(weights)) == (pytest.approx(0.8, abs=1e-6), pytest.approx(1, abs=0.01))
    linear = {"mapping": "linear", "most": 1.2}
    answer = await client.reward([group()], reward="steer", preset="paper", config=linear)
    low, high = min(map(min, omega)), max(map(max, omega))
    for own, one in zip(omega, answer.groups[0].trajectories, strict=True):
        expected = [1.2 - 0.4 * (value - low) / (high - low) for value in own]
        assert one.token_weights == pytest.approx(expected, abs=NATS)


async def test_clip_cov_takes_the_tokens_of_the_largest_covariance(client, policy):
    config = {"low": 0.1, "high": 3.0, "share": 0.1}
    answer = await client.reward([group()], reward="clip_cov", config=config)
    logprobs = [policy(text)[0] for text in RESPONSES]
    scaled = [[value] * len(own) for value, own in zip(grpo(IS_RIGHT), logprobs, strict=True)]
    every, above = [x for own in logprobs for x in own], [x for own in scaled for x in own]
    covariance = [(a - fmean(above)) * (x - fmean(every)) for a, x in zip(above, every, strict=True)]
    inside = sorted((one for one in covariance if 0.1 < one < 3.0), reverse=True)
    count = int(0.1 * len(every))
    assert len(inside) > count + 3 > 6
    expected = [0.0 if 3.0 > one >= inside[count - 1] else 1.0 for one in covariance]
    assert [value for one in answer.groups[0].trajectories for value in one.token_weights] == expected
    drawn = [await client.reward([group()], reward="clip_cov", preset="paper", config=config) for _ in range(2)]
    weights = [[v for one in each.groups[0].trajectories for v in one.token_weights] for each in drawn]
    assert weights[0] == weights[1] != expected
    assert weights[0].count(0.0) == count
    assert all(0.1 < covariance[at] < 3.0 for at, weight in enumerate(weights[0]) if weight == 0)
    least = await client.reward([group()], reward="clip_cov", config={"low": 0.1, "high": 3.0})
    assert sum(one.token_weights.count(0.0) for one in least.groups[0].trajectories) == 1


def behind(entropies, window):
    return [fmean(entropies[at + 1 : at + 1 + window]) for at in range(len(entropies) - 1)]


async def test_ares_counts_high_entropy_tokens_against_the_groups(client, policy):
    entropies = [policy(text)[1] for text in RESPONSES]
    threshold = median(float(np.quantile(behind(own, 8), 0.98)) for own in entropies)
    counts = [sum(value >= threshold for value in behind(own, 4)) for own in entropies]
    target = round(fmean(counts))
    for outcomes, level in (((1, 0, 1, 1), "easy"), ((1, 0, 0, 1), "medium"), ((1, 0, 0, 0), "hard")):
        responses = [
            text.replace(RIGHT, RIGHT if right else WRONG) for text, right in zip(RESPONSES, outcomes, strict=True)
        ]
        if outcomes != (1, 0, 1, 1):
            entropies = [policy(text)[1] for text in responses]
            threshold = median(float(np.quantile(behind(own, 8), 0.98)) for own in entropies)
            counts = [sum(value >= threshold for value in behind(own, 4)) for own in entropies]
            target = round(fmean(counts))
        answer = await client.reward([group(responses)], reward="ares", preset="paper")
        for count, right, one in zip(counts, outcomes, answer.groups[0].trajectories, strict=True):
            assert (one.components["explored"], one.components["target"]) == (count, target)
            assert one.reward == pytest.approx(right + ares_term(level, right, count - target, target))
    hardened = await client.reward([group()], reward="ares")
    assert hardened.groups[0].trajectories[1].reward == 0


def ares_term(level, right, delta, target, alpha=0.5):
    """The released code's table."""
    share, kappa, temperature, scale, wrong = {
        "easy": (0.15, 2, 2, 1, 0.6), "medium": (0.25, 3, 2.5, 1, 0.8), "hard": (0.35, 4, 3, 1.2, 1)
    }[level]  # fmt: skip
    margin, cap = max(1, share * max(target, 1)), alpha * scale

    def penalty(x):
        return x * x / (2 * kappa) if x <= kappa else x - kappa / 2

    def grown(x):
        return 1 / (1 + exp(-x / temperature))

    if not right:
        return grown(max(delta - margin, 0)) * cap * wrong
    if level == "hard":
        if delta >= -margin:
            return grown(delta + margin) * cap
        return -min(cap, 0.5 * penalty(-delta - margin) / (margin + kappa) * cap)
    over = max((delta if level == "easy" else abs(delta)) - margin, 0)
    return -min(cap, penalty(over) / (margin + kappa) * cap)


@pytest.mark.parametrize("answers", [(42, 42, 42, 42), (42, 41, 42, 42), (42, 41, 40, 39)])
async def test_copo_turns_to_the_global_side_where_the_group_agrees(client, answers):
    responses = [f"<think>\nso\n\n</think>\\boxed{{{number}}}" for number in answers]
    shares = [count / 4 for count in Counter(answers).values()]
    entropy = -sum(share * log(share) for share in shares)
    for preset, weight in (
        ("paper", 1 / (1 + exp(-20 * (entropy - 1.5)))),
        ("hardened", 1 / (1 + exp(-20 * (entropy / log(4) - 0.5)))),
    ):
        answer = await client.reward([group(responses)], reward="copo", preset=preset)
        assert answer.usage.tokens_computed == 0
        for one in answer.groups[0].trajectories:
            assert one.token_weights == pytest.approx([weight] * one.response_tokens, abs=1e-9)
            assert one.components["global_weight"] == pytest.approx(1 - weight, abs=1e-9)
            assert one.components["entropy"] == pytest.approx(entropy)


async def test_cepo_weighs_by_what_the_right_answer_makes_likelier_than_a_wrong_one(client, rows, hf_tokenizer):
    def encoded(text):
        return hf_tokenizer(text, add_special_tokens=False).input_ids

    def behind(evidence, ids):
        context = encoded(PROMPT) + evidence
        every = rows(context + ids)[len(context) - 1 : -1]
        return every[torch.arange(len(ids)), torch.tensor(ids)]

    wrong = encoded("\\boxed{41}")[:16]
    answer = await client.reward([group()], reward="cepo", preset="paper")
    for text, right, one in zip(RESPONSES, IS_RIGHT, answer.groups[0].trajectories, strict=True):
        ids = encoded(text)
        delta = (behind(encoded("42"), ids) - behind(wrong, ids)).tolist()
        sign = 1 if right else -1
        expected = [min(max(exp(sign * one), 0.8), 1.2) for one in delta]
        assert one.token_weights == pytest.approx(expected, abs=5 * NATS)
        assert one.components["evidence"] == pytest.approx(fmean(delta), abs=NATS)
    assert len({round(weight, 6) for weight in answer.groups[0].trajectories[0].token_weights}) > 5
    half = await client.reward([group()], reward="cepo", preset="paper", config={"mix": 0.5})
    for full, mixed in zip(answer.groups[0].trajectories, half.groups[0].trajectories, strict=True):
        assert mixed.token_weights == pytest.approx([0.5 + 0.5 * one for one in full.token_weights], abs=1e-6)
    hardened = (await client.reward([group()], reward="cepo")).groups[0].trajectories
    assert set(hardened[1].token_weights) == {1.0}  # its own wrong answer is not held against it
    assert hardened[0].token_weights == pytest.approx(answer.groups[0].trajectories[0].token_weights)
    alike = await client.reward([group([RESPONSES[0], RESPONSES[2]])], reward="cepo", preset="paper")
    assert {weight for one in alike.groups[0].trajectories for weight in one.token_weights} == {1.0}


async def test_cde_adds_a_bonus_for_surprise_that_never_turns_right_and_wrong(client, policy):
    most = 0.05 * median(-fmean(policy(text)[0]) for text in RESPONSES)
    config = {"alpha": 0.05, "most": most, "weight": 0.5}
    answer = await client.reward([group()], reward="cde", preset="paper", config=config)
    clipped = []
    for text, right, one in zip(RESPONSES, IS_RIGHT, answer.groups[0].trajectories, strict=True):
        surprise = -fmean(policy(text)[0])
        clipped.append(0.05 * surprise > most)
        expected = (1 if right else -1) + 0.5 * min(most, 0.05 * surprise)
        assert one.reward == pytest.approx(expected, abs=NATS)
    assert 0 < sum(clipped) < len(clipped)


@pytest.mark.parametrize("name", ["steer", "clip_cov", "ares", "cepo", "cde"])
async def test_open_tasks_have_no_right_and_wrong(client, name):
    answer = await client.reward([group(task="open")], reward=name)
    for one in answer.groups[0].trajectories:
        assert (one.status, one.error.code) == ("error", OutcomeUnavailable.code)
        assert one.error.message.startswith(name)


@pytest.mark.parametrize("name", ["steer", "clip_cov", "ares", "cepo", "copo", "seed_grpo", "empo", "ttrl"])
async def test_a_lone_member_is_told_so(client, name):
    answer = (await client.reward([group(RESPONSES[:1])], reward=name)).groups[0]
    assert "uninformative" in answer.trajectories[0].flags
    assert answer.message.startswith("the group has one member, and this reward compares members")
    weights = answer.trajectories[0].token_weights
    assert weights is None or set(weights) == {1.0}


@pytest.mark.parametrize("name", ["cepo", "opera"])
async def test_what_fits_by_itself_but_not_with_what_stands_around_it_is_left_out_alone(
    client, name, hf_tokenizer
):
    """From a response that has room for everything to one that has none by itself, a token at a time."""

    def encoded(text):
        return hf_tokenizer(text, add_special_tokens=False).input_ids

    wrong = "<think>\nHm.</think>\n\nIt is, as far as I can tell, \\boxed{41}<|im_end|>"
    begin, end = encoded("<think>\n"), encoded(RIGHT)
    most = (await client.model()).max_context
    fixed = len(encoded(PROMPT)) + len(begin) + len(end)
    evidence = min(16, len(encoded("It is, as far as I can tell, \\boxed{41}")))
    found = {}
    for length in range(most - 24, most + 4):
        ids = [*begin, *encoded("x") * (length - fixed), *end]
        asked = group([wrong, RESPONSES[2]])
        asked["trajectories"].insert(0, {"response_token_ids": ids})
        first, *others = (await client.reward([asked], reward=name, detail="reward")).groups[0].trajectories
        assert [one.status for one in others] == ["ok", "ok"]
        found[length] = first.status if first.error is None else first.error.code
    last = max(length for length, said in found.items() if said == "ok")
    assert found == {at: "ok" if at <= last else "context_too_long" for at in found}
    if name == "cepo":
        assert last == most - evidence
