"""Kept trunks: exact, the same in every bit whatever was computed before, bounded, and gone with the weights."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opera_client.errors import EngineOutOfMemory, NotSupported
from opera_service.engines.torch import TorchEngine
from opera_service.engines.torch.kept_trunks import BLOCK, KeptTrunksRoute
from opera_service.engines.torch.scorer import TreeScorer
from opera_service.scoring.tree import ROOT, TokenTree, TreeBuilder

RANDOM = np.random.default_rng(7)
PATH = RANDOM.integers(3, 89, 230).tolist()
TARGET = [5, 9, 11, 4]
CUTS = [1, 5, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 150, 3 * BLOCK, 226]


def growing(*cuts: int, target: list[int] = TARGET) -> TokenTree:
    """The target after several prefixes of one path."""
    builder = TreeBuilder()
    for cut in cuts:
        builder.score(builder.extend(ROOT, PATH[:cut]), target)
    return builder.build()


def grown(*lengths: int, context: int = 70) -> TokenTree:
    """Longer and longer targets, as a policy writes them, after one context."""
    builder = TreeBuilder()
    for length in lengths:
        builder.score(builder.extend(ROOT, PATH[:context]), PATH[context : context + length], grows=True)
    return builder.build()


def scorer_of(lab, dtype=torch.float32, **how) -> TreeScorer:
    return TreeScorer(lab.load("qwen3", dtype), route="kept_trunks", **how)


def per_cut(scorer: TreeScorer, *cuts: int, target: list[int] = TARGET) -> list[list[float]]:
    (scores,) = scorer.score([growing(*cuts, target=target)])
    return [scores.of(query).tolist() for query in range(len(cuts))]


@pytest.mark.parametrize("name", ["qwen3", "qwen3_tied", "qwen3_no_gqa", "llama", "granite", "gpt2"])
def test_numbers_are_those_of_plain_forwards(lab, trees, name):
    scorer = TreeScorer(lab.load(name), route="kept_trunks")
    for _ in range(2):  # cold, then from what is kept
        for tree, scores in zip(trees, scorer.score(trees), strict=True):
            expected = lab.oracle_logprobs(lab.make_model(name), tree)
            np.testing.assert_allclose(scores.logprobs, expected, rtol=0, atol=1e-10)
    tree = growing(*CUTS)
    expected = lab.oracle_logprobs(lab.make_model(name), tree)
    np.testing.assert_allclose(scorer.score([tree])[0].logprobs, expected, rtol=0, atol=1e-10)


@pytest.fixture(scope="module")
def single(lab) -> TreeScorer:
    """A scorer in float32 whose route tests replace."""
    return scorer_of(lab)


@pytest.fixture(scope="module")
def cold(single: TreeScorer) -> dict[int, list[float]]:
    """The numbers of each cut by a route that was never asked anything else."""
    found = {}
    for cut in CUTS:
        single.route = KeptTrunksRoute(single.loaded.model)
        (found[cut],) = per_cut(single, cut)
    return found


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.sampled_from(CUTS), min_size=1, max_size=4), max_size=4), st.integers(0, 400))
def test_what_was_computed_before_changes_no_bit(single, cold, before, kept):
    single.route = KeptTrunksRoute(single.loaded.model, kept)
    for cuts in before:
        per_cut(single, *cuts)
        per_cut(single, *cuts, target=[8, 8])
    assert per_cut(single, *CUTS) == [cold[cut] for cut in CUTS]


def test_only_what_is_new_is_computed(lab):
    scorer = scorer_of(lab)
    first = scorer.score([growing(100)])[0].tokens_computed
    assert first == 100 + len(TARGET) - 1
    again = scorer.score([growing(100)])[0].tokens_computed
    later = scorer.score([growing(100, 226)])[0].tokens_computed
    assert again == 0
    assert later == (226 - BLOCK) + len(TARGET) - 1  # one block was kept


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(1, 150), max_size=5),
    st.sampled_from([1, 63, 64, 65, 70]),
    st.sampled_from([0, 128, 9999]),
)
def test_a_target_that_grew_has_the_numbers_of_one_that_came_whole(single, before, context, kept):
    single.route = KeptTrunksRoute(single.loaded.model, kept)
    for length in before:
        single.score([grown(length, context=context)])
        per_cut(single, context + length)
    (warm,) = single.score([grown(150, context=context)])
    single.route = KeptTrunksRoute(single.loaded.model)
    (whole,) = single.score([grown(150, context=context)])
    assert warm.logprobs.tolist() == whole.logprobs.tolist()


def test_a_target_that_grew_is_exact(lab):
    scorer = scorer_of(lab, torch.float64)
    for tree in (grown(30), grown(59, 130, 160), grown(160, 3, 121)):
        expected = lab.oracle_logprobs(lab.make_model("qwen3"), tree)
        np.testing.assert_allclose(scorer.score([tree])[0].logprobs, expected, rtol=0, atol=1e-10)


def test_of_a_target_that_grows_whole_blocks_are_kept(lab):
    scorer = scorer_of(lab)
    lengths = [2 * BLOCK - 70 + 1, 3 * BLOCK - 70 + 1, 3 * BLOCK - 70 + 11]  # the last target token is not fed
    computed = [scorer.score([grown(length)])[0].tokens_computed for length in lengths]
    assert computed == [2 * BLOCK, BLOCK, 10]
    other = TreeBuilder()
    other.score(other.extend(ROOT, PATH[:70]), PATH[70:203])  # not said to grow: computed in another way
    assert scorer.score([other.build()])[0].tokens_computed == 203 - 1 - BLOCK


def test_what_a_whole_trunk_predicts_is_not_computed_again(lab):
    scorer = scorer_of(lab)
    scorer.score([growing(226)])
    assert scorer.score([growing(2 * BLOCK)])[0].tokens_computed == len(TARGET) - 1


def test_several_trees_of_one_call_pay_for_their_own(lab):
    scorer = scorer_of(lab)
    one, two = scorer.score([growing(100), growing(100, 101)])  # the larger one is computed first
    assert (one.tokens_computed, two.tokens_computed) == (0, 103 + (101 - BLOCK) + 3)


@pytest.mark.parametrize("kept", [0, BLOCK, 2 * BLOCK, 10_000])
def test_what_is_kept_is_bounded_and_the_oldest_leaves(lab, kept):
    scorer = scorer_of(lab)
    route = scorer.route = KeptTrunksRoute(scorer.loaded.model, kept)
    for start in range(3):
        builder = TreeBuilder()
        path = [start, *PATH]
        builder.score(builder.extend(ROOT, path[:200]), TARGET)
        scorer.score([builder.build()])
        assert route.held_tokens <= kept
        assert route.answers.held <= kept
    assert route.held_tokens == min(kept // BLOCK, 9) * BLOCK


def test_a_trunks_start_outlives_its_end(lab):
    """Without its start the rest of a trunk is of no use, so it is the last to leave."""
    scorer = scorer_of(lab)
    scorer.route = KeptTrunksRoute(scorer.loaded.model, 2 * BLOCK)
    scorer.score([growing(226)])
    assert scorer.score([growing(BLOCK + 5)])[0].tokens_computed == 5 + len(TARGET) - 1


@pytest.mark.parametrize("room", [0, 2 * BLOCK, 5 * BLOCK])
def test_a_batch_that_outgrows_memory_is_computed_and_less_is_kept(lab, cold, room):
    """Memory here has room for `room` kept tokens and the forward at hand; the bound allows far more."""
    scorer = scorer_of(lab)
    route, ended = scorer.route, []

    def forward(*_: object, **__: object) -> None:
        if route.held_tokens > room:
            ended.append(route.held_tokens)
            raise torch.OutOfMemoryError("CUDA out of memory")

    hook = scorer.loaded.model.base_model.register_forward_pre_hook(forward)
    builders = [TreeBuilder() for _ in range(4)]
    for start, builder in enumerate(builders):
        builder.score(builder.extend(ROOT, [start, *PATH][:200]), TARGET)
    trees = [*(builder.build() for builder in builders), growing(*CUTS)]
    *others, grown = scorer.score(trees)
    assert [grown.of(query).tolist() for query in range(len(CUTS))] == [cold[cut] for cut in CUTS]
    assert 0 < len(ended) < 9
    assert route.held_tokens <= room
    hook.remove()
    route.forget()
    assert [one.logprobs.tolist() for one in scorer.score(trees[:4])] == [one.logprobs.tolist() for one in others]
    assert route.held_tokens == 4 * 3 * BLOCK  # new weights begin with the whole bound


def test_memory_that_ends_with_nothing_kept_is_a_typed_error(lab):
    scorer = scorer_of(lab)

    def forward(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    hook = scorer.loaded.model.base_model.register_forward_pre_hook(forward)
    with pytest.raises(EngineOutOfMemory, match="do not fit"):
        scorer.score([growing(100)])
    hook.remove()


async def test_new_weights_forget_the_old_ones(lab, tmp_path):
    engine = TorchEngine(scorer_of(lab, torch.float64))
    tree = growing(*CUTS)
    (before,) = await engine.score([tree])
    other = lab.make_model("qwen3")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.01)
    other.save_pretrained(tmp_path)
    await engine.load_weights(tmp_path, "1")
    (after,) = await engine.score([tree])
    np.testing.assert_allclose(after.logprobs, lab.oracle_logprobs(other, tree), rtol=0, atol=1e-10)
    assert np.abs(after.logprobs - before.logprobs).max() > 1e-4
    await engine.aclose()


async def test_weights_that_are_refused_leave_nothing_behind(lab, tmp_path):
    """The probe scored on the refused weights; nothing of that may stay."""
    from opera_client.errors import CanaryMismatch
    from opera_service.engines.base import Probe

    engine = TorchEngine(scorer_of(lab, torch.float64))
    tree = growing(*CUTS)
    other = lab.make_model("qwen3")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.01)
    other.save_pretrained(tmp_path)

    def refuse(_: object) -> None:
        raise CanaryMismatch("no")

    with pytest.raises(CanaryMismatch):
        await engine.load_weights(tmp_path, "1", probe=Probe(tree, refuse))
    (scores,) = await engine.score([tree])
    expected = lab.oracle_logprobs(lab.make_model("qwen3"), tree)
    np.testing.assert_allclose(scores.logprobs, expected, rtol=0, atol=1e-10)
    await engine.aclose()


@pytest.mark.parametrize("name", ["qwen3_sliding", "qwen3_next", "mamba"])
def test_models_of_other_layers_are_refused(lab, name):
    with pytest.raises(NotSupported, match="--route auto"):
        TreeScorer(lab.load(name), route="kept_trunks")


def test_entropies_are_computed_every_time(lab):
    builder = TreeBuilder()
    builder.score(builder.extend(ROOT, PATH[:100]), TARGET)
    tree = builder.build(want_entropy=True)
    scorer, plain = scorer_of(lab, torch.float64), TreeScorer(lab.load("qwen3"), route="naive")
    for _ in range(2):
        (scores,) = scorer.score([tree])
        np.testing.assert_allclose(scores.entropies, plain.score([tree])[0].entropies, rtol=0, atol=1e-10)
