"""The model as a judge, against float64 transformers: prompts, both orders, labels."""

from __future__ import annotations

from itertools import permutations
from math import exp
from statistics import fmean

import pytest

from opera_service.trajectories.judge_prompts import PAIR, SINGLE

QUESTION = "What is 17 + 25?"
ANSWERS = ["The answer is 42.", "Seven.", "It is 42, since 7 + 5 carries."]
NATS = 1e-4


def group(**changes):
    trajectories = [{"response": f"<think>so\n\n</think>{one}"} for one in ANSWERS]
    return {"prompt": [{"role": "user", "content": QUESTION}], "trajectories": trajectories, **changes}


@pytest.fixture(scope="session")
def verdict(oracle, hf_tokenizer):
    """Log-probs of the labels after what the judge is shown."""

    def of(instruction: str, shown: dict[str, str], lead: str, labels: str) -> list[float]:
        parts = "\n\n".join([instruction, f"Question:\n{QUESTION}", *(f"{k}:\n{v}" for k, v in shown.items())])
        text = f"<|im_start|>user\n{parts}<|im_end|>\n<|im_start|>assistant\n"
        context = hf_tokenizer(text, add_special_tokens=False).input_ids
        context += hf_tokenizer(lead, add_special_tokens=False).input_ids
        return [oracle(context, hf_tokenizer(one, add_special_tokens=False).input_ids)[0] for one in labels]

    return of


def chance(logprobs: list[float]) -> float:
    first, second = map(exp, logprobs)
    return first / (first + second)


async def test_scope_asks_in_both_orders(client, verdict):
    answer = await client.reward([group()], reward="scope", preset="paper")
    ahead = {
        (a, b): chance(verdict(PAIR, {"Response A": ANSWERS[a], "Response B": ANSWERS[b]}, "Verdict:\n", "AB"))
        for a, b in permutations(range(3), 2)
    }
    for at, one in enumerate(answer.groups[0].trajectories):
        expected = fmean((ahead[at, k] + 1 - ahead[k, at]) / 2 for k in range(3) if k != at)
        assert one.reward == pytest.approx(expected, abs=NATS)
        assert one.components["order_bias"] == pytest.approx(
            fmean(abs(ahead[at, k] + ahead[k, at] - 1) for k in range(3) if k != at), abs=NATS
        )
    assert answer.usage.tokens_computed < answer.usage.tokens_naive / 3  # a question and a first answer once


async def test_trustjudge_rates_one_at_a_time(client, verdict):
    answer = await client.reward([group()], reward="trustjudge")
    for text, one in zip(ANSWERS, answer.groups[0].trajectories, strict=True):
        chances = [exp(each) for each in verdict(SINGLE, {"Response": text}, "Rating:\n", "12345")]
        expected = sum(s * p for s, p in enumerate(chances)) / sum(chances) / 4
        assert one.reward == pytest.approx(expected, abs=NATS)
        assert one.components["said"] == pytest.approx(sum(chances), abs=NATS)


async def test_a_ring_asks_less_and_a_lone_answer_has_no_peer(client):
    config = {"judging": {"opponents": 1}}
    trajectories = [{"response": f"<think>so\n\n</think>{n} apples and a pear"} for n in range(5)]
    ring = await client.reward([group(trajectories=trajectories)], reward="scope", config=config)
    every = await client.reward([group(trajectories=trajectories)], reward="scope")
    assert ring.usage.scored_tokens == 2 * 2 * 5
    assert every.usage.scored_tokens == 2 * 2 * 10
    (lone,) = (await client.reward([group(trajectories=trajectories[:1])], reward="scope")).groups[0].trajectories
    assert (lone.reward, lone.flags) == (0.5, ["uninformative"])


async def test_judges_join_a_sum_and_refuse_labels_of_two_tokens(client):
    terms = [{"name": "scope"}, {"name": "trustjudge", "weight": 0.5}, {"name": "opera"}]
    asked = group(reference="It is 42.")
    together = (await client.reward([asked], rewards=terms)).groups[0].trajectories
    for name in ("scope", "trustjudge", "opera"):
        alone = (await client.reward([asked], reward=name)).groups[0].trajectories
        assert [one.components[name] for one in together] == pytest.approx([one.reward for one in alone], abs=NATS)
    config = {"judging": {"labels": ["first one", "other one"]}}
    refused = (await client.reward([group()], reward="scope", config=config)).groups[0].trajectories
    assert {one.error.field for one in refused} == {"config.judging.labels"}
    assert "take labels of one" in refused[0].error.message


@pytest.mark.parametrize("name", ["scope", "trustjudge"])
@pytest.mark.parametrize("longest", [1, 2])
async def test_who_does_not_fit_the_judges_prompt_is_left_out_alone(client, name, longest):
    """The others are worth what they are without him, whatever stands around him."""
    long = "x" * 2020  # it fits as a response, and not beside a question and an instruction
    answers = [*ANSWERS, "bad"]
    for at in range(longest):
        answers.insert(2 * at, long)
    asked = group(trajectories=[{"response": f"<think>so\n\n</think>{one}"} for one in answers])
    asked["trajectories"][-1] = {"response": ""}
    found = (await client.reward([asked], reward=name)).groups[0].trajectories
    for text, one in zip(answers, found, strict=True):
        code = {long: "context_too_long", "bad": "empty_response"}.get(text)
        assert (one.error.code if one.error else None) == code
    alone = (await client.reward([group()], reward=name)).rewards[0]
    assert [one.reward for one in found if one.error is None] == pytest.approx(alone, abs=NATS)


async def test_two_answers_that_fit_but_not_together(client):
    long, short = "x" * 1100, "x" * 1000
    asked = group(trajectories=[{"response": f"<think>so\n\n</think>{one}"} for one in (short, long)])
    kept, refused = (await client.reward([asked], reward="scope")).groups[0].trajectories
    assert (refused.error.code, kept.reward) == ("context_too_long", 0.5)
    assert "uninformative" in kept.flags
    assert [one.error for one in (await client.reward([asked], reward="trustjudge")).groups[0].trajectories] == [
        None
    ] * 2
