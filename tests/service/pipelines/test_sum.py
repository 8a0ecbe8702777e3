"""Several rewards in one request: as exact as alone, at the price of the dearest, by every way in."""

from __future__ import annotations

import asyncio

import pytest

from opera_client.errors import InvalidRequest

MESSAGES = [{"role": "user", "content": "What is 17 + 25?"}]
REFERENCE = "It is 42, since 7 + 5 carries."
RESPONSES = [
    "<think>\n17 + 25 is 32, or so it seems to me.\n\nWait, that is not right: 7 + 5 carries.\n\n"
    "But the sum stays the same, however large it is.\n\nSo 42 it is.</think>\n\nThe answer is 42.<|im_end|>",
    "<think>The sea is grey and the harbour empty.\n\n\nHmm, maybe not; let me check it again.\n\n</think>42",
    "<think>\nbutter\n\n</think>\n\nSeven.",
]
FIVE = ["opera", "logprob", "rlpr", "jepo", "nover"]


def group(**changes):
    trajectories = [{"response": text} for text in RESPONSES]
    return {"prompt": MESSAGES, "reference": REFERENCE, "trajectories": trajectories, **changes}


async def test_every_term_is_what_it_is_alone_and_all_cost_what_the_dearest_costs(client):
    alone = {name: await client.reward([group()], reward=name) for name in FIVE}
    weights = dict(zip(FIVE, (1.0, 0.5, -2.0, 0.25, 0.0), strict=True))
    terms = [{"name": name, "weight": weight} for name, weight in weights.items()]
    together = await client.reward([group()], rewards=terms)
    assert together.reward == "sum"
    assert list(together.components) == list(together.groups[0].trajectories[0].components)
    for at, found in enumerate(together.groups[0].trajectories):
        each = {name: one.groups[0].trajectories[at] for name, one in alone.items()}
        assert found.reward == pytest.approx(
            sum(weights[name] * one.reward for name, one in each.items()), abs=1e-4
        )
        for name, one in each.items():
            assert found.components[name] == pytest.approx(one.reward, abs=1e-4)
            for key, value in one.components.items():
                assert found.components[f"{name}.{key}"] == pytest.approx(value, abs=1e-3)
        assert found.mean_logprob == pytest.approx(each["opera"].mean_logprob, abs=1e-5)
        assert [one.text for one in found.segments] == [one.text for one in each["opera"].segments]
    dearest = max(one.usage.tokens_computed for one in alone.values())
    assert together.usage.tokens_computed <= 1.1 * dearest


async def test_terms_that_encode_in_their_own_ways_share_the_tree(client):
    terms = [{"name": "opera", "preset": "paper"}, {"name": "logprob"}, {"name": "nover", "preset": "paper"}]
    alone = [
        await client.reward([group()], reward=one["name"], preset=one.get("preset", "hardened")) for one in terms
    ]
    together = await client.reward([group()], rewards=terms)
    for at, found in enumerate(together.groups[0].trajectories):
        expected = [one.groups[0].trajectories[at].reward for one in alone]
        assert [found.components[one["name"]] for one in terms] == pytest.approx(expected, abs=1e-4)
    assert together.usage.tokens_computed < sum(one.usage.tokens_computed for one in alone)


async def test_members_that_come_alone_meet_in_the_same_sum(client):
    terms = [{"name": "opera"}, {"name": "rlpr", "weight": 0.5}]
    whole = await client.reward([group()], rewards=terms)
    shared = {
        "group_id": "g", "group_size": 3, "prompt": MESSAGES, "reference": REFERENCE, "rewards": terms,
    }  # fmt: skip
    members = [{**shared, "member_id": str(at), "response": text} for at, text in enumerate(RESPONSES)]
    found = await asyncio.gather(*map(client.member, members))
    assert [one.reward for one in found] == pytest.approx(
        [one.reward for one in whole.groups[0].trajectories], abs=1e-5
    )
    assert {one.config_hash for one in found} == {whole.config_hash}
    spelt = await client.reward([group()], reward="sum", config={"rewards": terms})
    assert spelt.config_hash == whole.config_hash


async def test_one_trajectory_that_a_term_cannot_take_is_an_error_of_its_own(client):
    trajectories = [{"response": RESPONSES[0]}, {"response": ""}, {"response": RESPONSES[2]}]
    terms = [{"name": "opera"}, {"name": "logprob", "preset": "paper"}]
    (found,) = (await client.reward([group(trajectories=trajectories)], rewards=terms)).groups
    assert [one.status for one in found.trajectories] == ["ok", "error", "ok"]
    assert found.trajectories[1].error.code == "empty_response"
    kept = await client.reward([group(trajectories=[trajectories[0], trajectories[2]])], rewards=terms)
    assert [found.trajectories[at].reward for at in (0, 2)] == pytest.approx(
        [one.reward for one in kept.groups[0].trajectories], abs=1e-5
    )


async def test_math_terms_are_judged_term_by_term(client):
    answers = ["<think>\nsums\n\n</think>\\boxed{42}", "<think>\nsums\n\n</think>\\boxed{41}"]
    asked = group(task="math", reference="42", trajectories=[{"response": one} for one in answers])
    terms = [{"name": "opera"}, {"name": "opera", "preset": "paper"}, {"name": "logprob"}]
    right, wrong = (await client.reward([asked], rewards=terms)).groups[0].trajectories
    assert right.components["opera"] > 0
    assert wrong.components["opera"] == 0
    assert {"outcome_correct", "outcome_wrong"} & set(right.flags) == {"outcome_correct"}


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"rewards": [{"name": "opera"}], "reward": "logprob"}, None, "not both"),
        ({"rewards": [{"name": "opera"}], "config": {"total": {}}}, None, "its own `config`"),
        ({"rewards": [{"name": "opera", "share": 1}]}, "rewards.0.share", "no field here"),
        ({"rewards": [{"name": "opera"}, {"name": "opra"}]}, "rewards.1.name", "`opera`"),
        ({"rewards": []}, "rewards", "at least one"),
    ],
)
async def test_contradictions_and_mistakes_are_refused(client, changes, field, says):
    with pytest.raises(InvalidRequest) as caught:
        await client.reward([group()], **changes)
    assert caught.value.field == field
    assert says in caught.value.message


async def test_a_missing_reference_is_refused_where_one_is_needed(client):
    with pytest.raises(InvalidRequest, match="logprob needs a reference") as caught:
        await client.reward([group(), group(reference=None)], reward="logprob")
    assert caught.value.field == "groups.1.reference"


async def test_turns_are_paid_what_the_terms_pay_them(client):
    turns = [
        {"role": "assistant", "content": "<think>Let me look.\n\n</think>search"},
        {"role": "user", "content": "7 + 5 carries."},
        {"role": "assistant", "content": "<think>So it carries.\n\n</think>42"},
    ]
    asked = group(trajectories=[{"turns": turns}])
    weights = {"opera": 1.0, "igpo": 0.5}
    alone = {name: (await client.reward([asked], reward=name)).groups[0].trajectories[0] for name in weights}
    terms = [{"name": name, "weight": weight} for name, weight in weights.items()]
    (one,) = (await client.reward([asked], rewards=terms)).groups[0].trajectories
    for at, step in enumerate(one.steps):
        expected = sum(weight * alone[name].steps[at].reward for name, weight in weights.items())
        assert step.reward == pytest.approx(expected, abs=1e-5)
    assert sum(step.reward for step in one.steps) == pytest.approx(one.reward)
