"""Weighted sums: every term as if it were alone, on one tree."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opera_client.errors import InvalidRequest
from opera_service.rewards.registry import config_hash, resolve

NAMES = ("opera", "logprob", "verifree", "rlpr", "jepo", "nover")


def sum_of(*terms, preset="hardened"):
    return resolve("sum", preset, {"rewards": list(terms)})


def priced(hand, reward, responses, **bench):
    bench = hand.Bench(**bench)
    group, prices = bench.group(responses)
    if len(reward.parts) > 1 or reward.name == "sum":
        group = replace(group, views=(group,) * len(reward.parts))
    return bench.read(reward, group, prices)


@given(
    weights=st.lists(st.floats(-3, 3), min_size=len(NAMES), max_size=len(NAMES)),
    levels=st.lists(st.floats(-6, -0.05), min_size=1, max_size=4),
)
def test_a_sum_is_the_weighted_sum_of_its_terms_alone(hand, weights, levels):
    responses = [hand.thought(-1.0, level) for level in levels]
    alone = [priced(hand, resolve(name, "hardened", {}), responses) for name in NAMES]
    terms = [{"name": name, "weight": weight} for name, weight in zip(NAMES, weights, strict=True)]
    together = priced(hand, sum_of(*terms), responses)
    for at, found in enumerate(together.trajectories):
        each = [one.trajectories[at] for one in alone]
        assert found.reward == pytest.approx(np.dot(weights, [one.reward for one in each]), abs=1e-9)
        for name, one in zip(NAMES, each, strict=True):
            assert found.components[name] == one.reward
            assert {
                f"{name}.{key}": value for key, value in one.components.items()
            }.items() <= found.components.items()
        gains = [[segment.gain for segment in one.segments] for one in (found, each[0])]
        assert gains[0] == gains[1]


def test_the_same_reward_twice_has_two_names(hand):
    reward = sum_of({"name": "logprob"}, {"name": "logprob", "weight": 2, "config": {"reduction": "sum"}})
    assert reward.components == (
        "logprob", "logprob.sum", "logprob.mean", "logprob-2", "logprob-2.sum", "logprob-2.mean",
    )  # fmt: skip
    (one,) = priced(hand, reward, [hand.thought(-1.5)]).trajectories
    assert tuple(one.components) == reward.components
    assert one.reward == pytest.approx(-1.5 + 2 * -12)
    assert reward.formula("open").text == "logprob + 2 · logprob-2"


def test_a_sum_says_nothing_where_no_paying_term_says_something(hand):
    def flags(*weights):
        terms = zip(("opera", "logprob", "seed_grpo"), weights, strict=True)
        reward = sum_of(*({"name": name, "weight": weight} for name, weight in terms))
        bench = hand.Bench()
        group, prices = bench.group([hand.thought(-1.0), hand.thought(-1.001)])
        group = replace(group, views=(replace(group, classes=(0, 1)),) * 3)
        return [one.flags for one in bench.read(reward, group, prices).trajectories]

    assert flags(1, 0, 1) == [("no_spread",)] * 2  # seed_grpo pays 0, whatever its weight
    assert flags(1, 1, 1) == flags(0, 1, 0) == [()] * 2


def test_the_preset_of_a_request_may_be_one_that_only_terms_have():
    assert sum_of({"name": "opera"}, preset="hardened-1").parts[0].config == (
        resolve("opera", "hardened-1", {}).config
    )


def test_terms_have_presets_of_their_own_or_that_of_the_sum():
    mixed = sum_of({"name": "logprob"}, {"name": "verifree", "preset": "hardened-1"}, preset="paper")
    presets = [one.preset for one in mixed.config.rewards]
    assert presets == ["paper", "hardened-1"]
    assert mixed.parts[0].config == resolve("logprob", "paper", {}).config
    assert mixed.parts[1].config == resolve("verifree", "hardened-1", {}).config


def test_the_hash_covers_what_is_computed_and_nothing_else():
    plain = config_hash(sum_of({"name": "opera"}, {"name": "rlpr", "weight": 0.5}))
    default = resolve("rlpr", "hardened", {}).config.model_dump(mode="json")
    spelt_out = sum_of(
        {"name": "opera", "weight": 1, "config": {}}, {"name": "rlpr", "weight": 0.5, "config": default}
    )
    assert config_hash(spelt_out) == plain
    others = [
        sum_of({"name": "opera"}, {"name": "rlpr", "weight": 0.25}),
        sum_of({"name": "opera"}, {"name": "rlpr", "weight": 0.5, "preset": "paper"}),
        sum_of({"name": "opera", "config": {"value": {"clip": 4}}}, {"name": "rlpr", "weight": 0.5}),
        sum_of({"name": "rlpr", "weight": 0.5}, {"name": "opera"}),
    ]
    assert len({plain, *map(config_hash, others)}) == 5


@pytest.mark.parametrize(
    ("terms", "field", "says"),
    [
        ([{"name": "opra"}], "rewards.0.name", "`opera`"),
        ([{"name": "opera"}, {"name": "sum"}], "rewards.1.name", "holds no sums"),
        ([{"name": "opera", "preset": "strict"}], "rewards.0.preset", "`hardened`"),
        ([{"name": "opera"}, {"name": "rlpr", "config": {"margn": 1}}], "rewards.1.config.margn", "no such field"),
        ([{"name": "opera", "weight": 1e9}], "rewards.0.weight", "must be within"),
        ([], "config.rewards", "at least one"),
        ([{"name": "opera", "weight": float("inf")}], "rewards.0.weight", "finite"),
        ([{"name": "opera", "share": 1}], "rewards.0.share", "`name`"),
    ],
)
def test_mistakes_name_the_term(terms, field, says):
    with pytest.raises(InvalidRequest) as caught:
        sum_of(*terms)
    assert caught.value.field == field
    assert says in caught.value.message


def test_a_sum_without_terms_is_refused():
    with pytest.raises(InvalidRequest, match="give `rewards`") as caught:
        resolve("sum", "hardened", {})
    assert caught.value.field == "config.rewards"


def test_several_references_are_combined_term_by_term(hand):
    bench = hand.Bench(reference_tokens=4)
    group, prices = bench.group([hand.thought(-1.0), hand.thought(-2.0)])
    group = group.everywhere(alternatives=(("another", group.reference_ids),))
    alone = [
        bench.read(hand.for_group(resolve(name, "hardened", {}), group), group, prices)
        for name in ("logprob", "verifree")
    ]
    terms = [{"name": "logprob"}, {"name": "verifree", "weight": 3, "config": {"references": "max"}}]
    together = bench.read(sum_of(*terms), replace(group, views=(group, group)), prices)
    for at, one in enumerate(together.trajectories):
        expected = [alone[0].trajectories[at], alone[1].trajectories[at]]
        assert one.reward == pytest.approx(expected[0].reward + 3 * expected[1].reward)
        assert [by.reward for by in one.by_reference] == pytest.approx(
            [
                first.reward + 3 * second.reward
                for first, second in zip(expected[0].by_reference, expected[1].by_reference, strict=True)
            ]
        )
