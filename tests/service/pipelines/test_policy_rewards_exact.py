"""Rewards on the policy's own tokens, against float64 transformers and their formulas written again."""

from __future__ import annotations

from itertools import pairwise
from math import exp
from statistics import fmean

import numpy as np
import pytest
import torch

PROMPT = "<|im_start|>user\nWhat is 17 + 25?<|im_end|>\n<|im_start|>assistant\n"
MESSAGES = [{"role": "user", "content": "What is 17 + 25?"}]
RESPONSES = [
    "<think>\n17 + 25 is 32, or so it seems to me.\n\nWait, that is not right: 7 + 5 carries.\n\n"
    "So 42 it is.</think>\n\nThe answer is 42.<|im_end|>",
    "<think>The sea is grey and the harbour empty.\n\nHmm, maybe not; let me check it again.\n\n</think>42",
    "<think>\nbutter\n\n</think>\n\nSeven.",
]
NATS = 2e-5


def group(responses=RESPONSES, **changes):
    return {"prompt": MESSAGES, "trajectories": [{"response": text} for text in responses], **changes}


@pytest.fixture(scope="session")
def policy(rows, hf_tokenizer):
    """ids, log-probs and entropies of a response's own tokens, in float64."""

    def of(response: str) -> tuple[list[int], np.ndarray, np.ndarray]:
        context = hf_tokenizer(PROMPT, add_special_tokens=False).input_ids
        ids = hf_tokenizer(response, add_special_tokens=False).input_ids
        every = rows(context + ids)[len(context) - 1 : -1]
        logprobs = every[torch.arange(len(ids)), torch.tensor(ids)]
        entropies = -(every.exp() * every).sum(-1)
        return ids, logprobs.numpy(), entropies.numpy()

    return of


def parts_of(ids: list[int], hf_tokenizer) -> tuple[slice, slice]:
    """Return where thought and answer stand: between the tags' tokens, and behind the blanks after the second."""
    open_id, close_id, end_id = hf_tokenizer.convert_tokens_to_ids(["<think>", "</think>", "<|im_end|>"])
    close = ids.index(close_id)
    end = len(ids) - (ids[-1] == end_id)
    first = close + 1
    while not hf_tokenizer.decode(ids[first : first + 1]).strip():
        first += 1
    return slice(ids.index(open_id) + 1, close), slice(first, end)


async def test_rent_is_minus_the_mean_entropy_of_what_was_written(client, policy):
    answer = await client.reward([group()], reward="rent", preset="paper")
    assert answer.components == ["entropy", "logprob", "tokens"]
    for text, one in zip(RESPONSES, answer.groups[0].trajectories, strict=True):
        ids, logprobs, entropies = policy(text)
        assert one.reward == pytest.approx(-entropies.mean(), abs=NATS)
        assert one.components["logprob"] == pytest.approx(logprobs.mean(), abs=NATS)
        assert one.components["tokens"] == len(ids)
        assert (one.mean_logprob, one.perplexity, one.segments) == (None, None, [])
    assert answer.groups[0].initial_mean_logprob is None


async def test_em_rl_is_the_log_prob_of_the_sequence(client, policy):
    config = {"measure": "logprob", "reduction": "sum"}
    answer = await client.reward([group()], reward="rent", preset="paper", config=config)
    for text, one in zip(RESPONSES, answer.groups[0].trajectories, strict=True):
        assert one.reward == pytest.approx(policy(text)[1].sum(), abs=1e-3)


async def test_pear_weighs_the_phases_entropies(client, policy, hf_tokenizer):
    answer = await client.reward([group()], reward="pear", preset="paper")
    for text, one in zip(RESPONSES, answer.groups[0].trajectories, strict=True):
        ids, _, entropies = policy(text)
        thought, answered = parts_of(ids, hf_tokenizer)
        penalty = max(0.0, entropies[thought].mean() - entropies[answered].mean())
        assert one.components["thought_entropy"] == pytest.approx(entropies[thought].mean(), abs=NATS)
        assert one.components["answer_entropy"] == pytest.approx(entropies[answered].mean(), abs=NATS)
        assert one.reward == pytest.approx(min(1, 1 - penalty), abs=NATS)


async def test_pear_on_math_pays_right_answers_and_an_unclosed_thought_is_all_thought(client, policy):
    responses = [
        "<think>\nsums\n\n</think>\\boxed{42}",
        "<think>\nsums\n\n</think>\\boxed{41}",
        "<think>\nsums and no end \\boxed{42}",
    ]
    asked = group(responses, task="math", reference="42")
    terms = [{"name": "pear", "preset": "paper"}, {"name": "opera", "weight": 0}]
    right, wrong, unclosed = (await client.reward([asked], rewards=terms)).groups[0].trajectories
    assert right.components["pear"] == pytest.approx(1 - right.components["pear.penalty"], abs=1e-6)
    assert wrong.reward == 0
    assert unclosed.components["pear.thought_entropy"] == pytest.approx(policy(responses[2])[2].mean(), abs=NATS)
    assert unclosed.components["pear.answer_entropy"] == 0


async def test_the_highest_fifth_of_the_groups_entropies_keeps_its_weight(client, policy):
    answer = await client.reward([group()], reward="high_entropy", preset="paper")
    every = np.concatenate([policy(text)[2] for text in RESPONSES])
    threshold = np.sort(every)[::-1]
    kept = sum(sum(one.token_weights) for one in answer.groups[0].trajectories)
    assert kept == pytest.approx(0.2 * len(every), abs=1)
    for text, one in zip(RESPONSES, answer.groups[0].trajectories, strict=True):
        ids, _, entropies = policy(text)
        assert len(one.token_weights) == len(ids) == one.response_tokens
        assert one.reward == 0
        clear = np.abs(entropies - threshold[int(kept) - 1]) > 1e-3
        expected = entropies > threshold[int(kept) - 1]
        assert (np.array(one.token_weights)[clear] == expected[clear]).all()


async def test_empg_scales_steps_and_pays_for_clarity(client, policy):
    answer = await client.reward([group()], reward="empg", preset="paper", config={"steps": "segments"})
    found = answer.groups[0].trajectories
    # The first response: three paragraphs; a step goes up to the blank line behind it, the last one to the end.
    steps = []
    for text, one in zip(RESPONSES, found, strict=True):
        weights = np.array(one.token_weights)
        cuts = [0, *(np.flatnonzero(np.diff(weights)) + 1).tolist(), len(weights)]
        entropies = policy(text)[2]
        assert len(cuts) - 1 == one.components["steps"]
        steps.append([(start, end, entropies[start:end].mean()) for start, end in pairwise(cuts)])
    levels = [level for own in steps for *_, level in own]
    low, high = min(levels), max(levels)
    norm = fmean(exp(-(level - low) / (high - low)) for level in levels)
    for own, one in zip(steps, found, strict=True):
        for at, (start, end, level) in enumerate(own):
            weight = exp(-(level - low) / (high - low)) / norm
            assert one.token_weights[start:end] == pytest.approx([weight] * (end - start), abs=1e-4)
            after = own[at + 1][2] if at + 1 < len(own) else None
            bonus = 0.0 if after is None else 0.1 * exp(-(after - low) / (high - low))
            assert one.token_rewards[start:end] == pytest.approx([bonus] * (end - start), abs=1e-4)
    assert found[0].components["steps"] == 3  # two paragraphs, the short last one joined, and the answer


async def test_environment_tokens_and_padding_have_no_weight(client, hf_tokenizer, policy):
    say, told, then = "<think>\nlook\n\n</think>search", "7 + 5 carries.", "<think>\nso\n\n</think>42<|im_end|>"
    pieces = [hf_tokenizer(text, add_special_tokens=False).input_ids for text in (say, told, then)]
    ids = [token for piece in pieces for token in piece]
    mask = [int(at != 1) for at, piece in enumerate(pieces) for _ in piece]
    asked = group(trajectories=[{"response_token_ids": ids, "response_mask": mask}])
    terms = [{"name": "high_entropy", "config": {"share": 1.0}}, {"name": "empg"}, {"name": "rent", "weight": 1}]
    (one,) = (await client.reward([asked], rewards=terms)).groups[0].trajectories
    assert len(one.token_weights) == len(ids)
    assert [weight > 0 for weight in one.token_weights] == [bool(own) for own in mask]
    entropies = policy(say + told + then)[2]
    assert one.reward == pytest.approx(-entropies[np.array(mask, dtype=bool)].mean(), abs=NATS)
    assert one.steps is None
    padded = await client.reward(
        [group(["<think>\na\n\n</think>b<|im_end|><|im_end|>"])], reward="high_entropy", config={"share": 1.0}
    )
    assert padded.groups[0].trajectories[0].token_weights[-2:] == [1, 0]


async def test_weights_of_several_terms_multiply_and_bonuses_add(client):
    one = {"name": "high_entropy", "config": {"share": 0.5}}
    other = {"name": "empg", "weight": 2.0, "config": {"steps": "segments"}}
    apart = [
        (await client.reward([group()], reward=term["name"], config=term["config"])).groups[0].trajectories
        for term in (one, other)
    ]
    together = (await client.reward([group()], rewards=[one, other])).groups[0].trajectories
    for first, second, both in zip(*apart, together, strict=True):
        assert both.token_weights == pytest.approx(
            np.multiply(first.token_weights, second.token_weights), abs=1e-5
        )
        assert both.token_rewards == pytest.approx(2 * np.array(second.token_rewards), abs=1e-5)


async def test_five_rewards_cost_what_the_dearest_costs_policy_tokens_included(client):
    thoughts = [" ".join(f"{word} {number} carries." for number in range(40)) for word in ("Seven", "Five")]
    responses = [f"<think>{one}\n\n</think>42" for one in thoughts]
    asked = group(responses, reference="It is 42, since 7 + 5 carries.")
    names = ("opera", "logprob", "rent", "pear", "high_entropy")
    alone = [(await client.reward([asked], reward=name)).usage.tokens_computed for name in names]
    five = await client.reward([asked], rewards=[{"name": name} for name in names])
    assert five.usage.tokens_computed <= 1.1 * max(alone)


async def test_sar_compares_the_response_with_and_without_its_question(client, policy, rows):
    answer = await client.reward([group()], reward="sar", preset="paper")
    for text, one in zip(RESPONSES, answer.groups[0].trajectories, strict=True):
        ids, logprobs, _ = policy(text)
        itself = rows(ids)[torch.arange(len(ids) - 1), torch.tensor(ids[1:])]
        asked, alone = -logprobs[1:].mean(), -itself.mean().item()
        assert one.components["with_prompt"] == pytest.approx(asked, abs=NATS)
        assert one.components["alone"] == pytest.approx(alone, abs=NATS)
        assert one.reward == pytest.approx(max((alone - asked) / alone, -1), abs=NATS)


async def test_text_mode_keeps_no_sampled_tokens(client):
    with pytest.raises(Exception, match="must be `ids`") as caught:
        await client.reward([group()], reward="rent", config={"context": {"mode": "text"}})
    assert caught.value.field.startswith("config")
