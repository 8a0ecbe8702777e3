"""Rewards by the model's own verdict, from label distributions made by hand."""

from math import exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opera_client.errors import InvalidRequest
from opera_service.rewards.catalog.scope import binary_entropy
from opera_service.rewards.registry import resolve
from opera_service.trajectories.judge_prompts import pairs

CHANCE = st.floats(0.01, 0.99)


def labels(table, said=0.5):
    """Label log-probs of pairs from the chance of the first; the two labels have `said` of all probability."""
    return {shown: np.log([said * chance, said * (1 - chance)]) for shown, chance in table.items()}


def value(name, member, table, preset="paper", **config):
    return resolve(name, preset, config).value(member, table)


@given(ahead=CHANCE, behind=CHANCE, said=st.floats(0.001, 0.999))
def test_scope_averages_both_orders_whatever_else_the_judge_might_say(ahead, behind, said):
    table = labels({("a", "b"): ahead, ("b", "a"): behind}, said)
    mine, parts, _ = value("scope", "a", table)
    theirs, other, _ = value("scope", "b", table)
    assert mine == pytest.approx((ahead + 1 - behind) / 2)
    assert mine + theirs == pytest.approx(1)
    p = (ahead + 1 - behind) / 2
    assert parts["entropy"] == pytest.approx(-p * log(p) - (1 - p) * log(1 - p))
    assert parts["order_bias"] == pytest.approx(abs(ahead + behind - 1))
    assert other["entropy"] == pytest.approx(parts["entropy"])


@given(bias=st.floats(0.5, 0.99))
def test_a_judge_that_only_sees_the_order_prefers_nobody(bias):
    table = labels({("a", "b"): bias, ("b", "a"): bias})
    assert value("scope", "a", table)[0] == pytest.approx(0.5)
    assert value("scope", "a", table, "hardened")[2] == ("uninformative",)


def test_scope_leaves_out_what_it_is_not_sure_of():
    table = labels({("a", "b"): 0.95, ("b", "a"): 0.05, ("a", "c"): 0.55, ("c", "a"): 0.45})
    sure, parts, flags = value("scope", "a", table, "hardened")
    assert sure == pytest.approx((0.95 + 0.5) / 2)
    assert parts["undecided"] == 0.5
    assert flags == ()
    assert value("scope", "a", table)[0] == pytest.approx((0.95 + 0.55) / 2)
    assert value("scope", "a", {})[0] == 0.5


@given(chances=st.lists(st.floats(0.001, 0.19), min_size=5, max_size=5))
def test_trustjudge_is_the_expectation_of_the_rating(chances):
    table = {("a",): np.log(chances)}
    plain = sum(s * p for s, p in enumerate(chances)) / sum(chances) / 4
    assert value("trustjudge", "a", table, "hardened")[0] == pytest.approx(plain)
    logits = [log((p + 1e-8) / (1 - p + 1e-8)) / 0.2 for p in chances]
    weights = [exp(one - max(logits)) for one in logits]
    sharp = sum(s * w for s, w in enumerate(weights)) / sum(weights) / 4
    rating, parts, _ = value("trustjudge", "a", table)
    assert rating == pytest.approx(sharp)
    assert parts["said"] == pytest.approx(sum(chances))
    assert 0 <= rating <= 1


@given(chances=st.lists(st.floats(0.001, 0.19), min_size=5, max_size=5))
def test_a_rating_turned_upside_down_is_its_complement(chances):
    ahead, back = ({("a",): np.log(one)} for one in (chances, chances[::-1]))
    for preset in ("paper", "hardened"):
        assert value("trustjudge", "a", ahead, preset)[0] + value("trustjudge", "a", back, preset)[0] == (
            pytest.approx(1)
        )


def test_the_gate_and_what_cannot_be_configured(hand):
    responses = [hand.thought(-1.0), hand.thought(-1.0, flags=("think_unclosed",))]
    for preset, second in (("paper", 0.5), ("hardened", 0.0)):
        found = hand.Bench().price(resolve("scope", preset, {}), responses).trajectories
        assert [one.reward for one in found] == pytest.approx([0.5, second])
    with pytest.raises(InvalidRequest, match="must be `single`"):
        resolve("trustjudge", "paper", {"judging": {"form": "pairs"}})


@given(count=st.integers(1, 9), opponents=st.one_of(st.none(), st.integers(1, 9)))
def test_every_member_meets_as_many_as_asked(count, opponents):
    found = pairs(count, opponents)
    assert len(found) == len(set(found))
    assert all(first < second for first, second in found)
    least = count - 1 if opponents is None else min(opponents, count - 1)
    met = [sum(at in pair for pair in found) for at in range(count)]
    assert min(met) >= least
    if opponents is None:
        assert len(found) == count * (count - 1) // 2


def test_entropy_of_a_certain_coin_is_nothing():
    assert binary_entropy(0.0) == binary_entropy(1.0) == 0
    assert binary_entropy(0.5) == pytest.approx(log(2))
