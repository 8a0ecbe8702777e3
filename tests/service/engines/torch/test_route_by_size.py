"""`auto` by measurement: who wins at which size, within which time, and that every size gets right numbers."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

from opera_service.engines.torch import route_by_size
from opera_service.engines.torch.engine import TorchEngine
from opera_service.engines.torch.kv_fork import KvForkRoute
from opera_service.engines.torch.readout import Head
from opera_service.engines.torch.route_by_size import (
    MEASURE_S,
    RouteBySize,
    Timing,
    combined,
    fastest,
    sized_tree,
    timings,
)
from opera_service.engines.torch.scorer import TreeScorer
from opera_service.engines.torch.tree_sdpa import TreeSdpaRoute


@pytest.fixture
def routes(lab):
    model = lab.load("qwen3").model
    return [TreeSdpaRoute(model), KvForkRoute(model)]


@pytest.fixture
def takes(monkeypatch):
    """Let a route take given seconds at a size; return the list of what was run."""
    runs = []

    def prescribe(seconds):
        def run(loaded, head, route, tree, max_tokens, clock):
            runs.append((route.name, tree.num_tokens))
            return seconds(route.name, tree.num_tokens)

        monkeypatch.setattr(route_by_size, "_run", run)
        monkeypatch.setattr(route_by_size, "_known", {})
        return runs

    return prescribe


def measured(lab, routes, seconds=5.0, max_tokens=4096):
    loaded = lab.load("qwen3")
    return fastest(loaded, Head(loaded.model), routes, max_tokens, seconds)


def test_small_batches_go_where_they_are_fastest(lab, routes, takes, monkeypatch):
    monkeypatch.setattr(route_by_size, "SIZES", (16, 64, 128))
    takes(lambda name, tokens: {"tree_sdpa": 10.0, "kv_fork": tokens / 5}[name])
    route = measured(lab, routes)
    assert route.name == "kv_fork|tree_sdpa"
    assert route.reason == "measured at start-up: kv_fork below 32 tokens, then tree_sdpa"
    assert route.route_for(31) is routes[1]
    assert route.route_for(32) is routes[0]


def test_a_small_lead_changes_nothing(lab, routes, takes):
    takes(lambda name, tokens: {"tree_sdpa": 1.0, "kv_fork": 0.91}[name])
    assert measured(lab, routes) is routes[0]
    takes(lambda name, tokens: {"tree_sdpa": 1.0, "kv_fork": 0.89}[name])
    assert measured(lab, routes).route_for(1) is routes[1]


def test_what_was_not_measured_goes_to_the_preferred_route(routes):
    route = combined([(128, routes[1]), (512, routes[1])], routes[0])
    assert route.route_for(1023) is routes[1]
    assert route.route_for(1024) is routes[0]
    assert combined([], routes[0]) is routes[0]


def test_a_route_may_win_between_two_sizes_only(routes):
    route = combined([(100, routes[0]), (400, routes[1]), (1600, routes[0])], routes[0])
    assert [route.route_for(tokens) for tokens in (199, 200, 799, 800)] == [
        routes[0], routes[1], routes[1], routes[0],
    ]  # fmt: skip
    assert route.name == "tree_sdpa|kv_fork|tree_sdpa"


def test_nothing_is_measured_without_time_or_choice(lab, routes, takes):
    runs = takes(lambda name, tokens: 1.0)
    assert measured(lab, routes, seconds=0.0) is routes[0]
    assert measured(lab, routes[1:]) is routes[1]
    assert runs == []


def test_an_engine_that_is_made_again_knows(lab, routes, takes):
    runs = takes(lambda name, tokens: 1.0)
    measured(lab, routes)
    once = len(runs)
    measured(lab, routes)
    assert len(runs) == once > 0
    measured(lab, routes, max_tokens=256)
    assert len(runs) > once


def test_sizes_stop_before_the_time_is_over(lab, routes, monkeypatch):
    loaded = lab.load("qwen3")
    monkeypatch.setattr(route_by_size, "SIZES", (16, 32, 64, 128))

    now = 0.0

    def run(loaded, head, route, tree, max_tokens, clock):
        nonlocal now
        now += tree.num_tokens
        return tree.num_tokens

    monkeypatch.setattr(route_by_size, "time", SimpleNamespace(perf_counter=lambda: now, process_time=lambda: now))
    monkeypatch.setattr(route_by_size, "_run", run)
    monkeypatch.setattr(route_by_size, "sized_tree", lambda _, tokens: SimpleNamespace(num_tokens=tokens))
    found = timings(loaded, Head(loaded.model), routes, 4096, 600.0)
    assert [each.tokens for each in found] == [16, 32]  # six runs each; four times the last would be too much
    assert timings(loaded, Head(loaded.model), routes, 4096, 600.0, checked_s=301.0) == []
    now = 0.0
    assert timings(loaded, Head(loaded.model), routes, 4096, 90.0)[0].tokens == 16
    assert now < 200  # a size that turns out longer is left


def test_no_tree_is_longer_than_the_model_or_the_budget_takes(lab, routes, takes):
    runs = takes(lambda name, tokens: 0.0)
    measured(lab, routes, max_tokens=600)  # the model has 256 positions
    assert {tokens <= 256 for _, tokens in runs} == {True}


@pytest.mark.parametrize("tokens", route_by_size.SIZES)
def test_a_sized_tree_has_about_its_size(tokens):
    tree = sized_tree(1000, tokens)
    assert 0.9 * tokens <= tree.num_tokens <= 1.05 * tokens
    assert tree.num_queries == 8


def test_both_sides_of_a_bound_are_exact(lab, trees):
    loaded = lab.load("qwen3")
    scorer = TreeScorer(loaded, route="tree_sdpa")
    scorer.route = RouteBySize([(60, KvForkRoute(loaded.model))], scorer.route)
    assert {tree.num_tokens < 60 for tree in trees} == {True, False}
    for tree in trees:
        (scores,) = scorer.score([tree])
        expected = lab.oracle_logprobs(loaded.model, tree)
        np.testing.assert_allclose(scores.logprobs, expected, rtol=0, atol=1e-10)


def test_the_winner_is_named_with_its_reason(lab):
    scorer = TreeScorer(lab.load("qwen3"), route="tree_sdpa")
    scorer.route = RouteBySize([(60, KvForkRoute(scorer.loaded.model))], scorer.route)
    info = TorchEngine(scorer).info
    assert info.route == "kv_fork|tree_sdpa"
    assert "kv_fork below 60 tokens" in info.route_reason


def test_timings_choose_by_the_lowest(lab):
    assert Timing(5, {"a": 2.0, "b": 1.0, "c": 1.5}).winner("a") == "b"
    assert Timing(5, {"a": 1.0, "b": 2.0}).winner("b") == "a"


def test_a_start_on_a_cpu_takes_less_than_a_second(lab, monkeypatch):
    monkeypatch.setattr(route_by_size, "_known", {})
    loaded = lab.load("qwen3")
    began = time.process_time()
    scorer = TreeScorer(loaded, measure_s=MEASURE_S["cpu"])
    assert time.process_time() - began < 1.0
    assert route_by_size._known  # noqa: SLF001
    assert set(scorer.route.name.split("|")) <= {"tree_sdpa", "kv_fork"}
