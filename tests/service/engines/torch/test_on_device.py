"""The engine on the device at hand: a GPU where there is one, else the CPU, so that these lines are never new."""

import asyncio
import gc

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from opera_service.engines.base import GenerationRequest
from opera_service.engines.torch.engine import TorchEngine
from opera_service.engines.torch.loading import LoadedModel
from opera_service.engines.torch.scorer import TreeScorer

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda:0" if CUDA else "cpu")
ROUTES = ["flex", "tree_sdpa", "kv_fork"]


def load(lab, name, dtype=torch.float32):
    return LoadedModel.of(lab.make_model(name, dtype).to(DEVICE), name=name)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", ["qwen3", "qwen3_sliding"])
def test_float32_equals_float64_on_a_cpu(lab, trees, name, route):
    scorer = TreeScorer(load(lab, name), route=route, max_batch_tokens=40)
    exact = lab.make_model(name, torch.float64)
    for tree, scores in zip(trees, scorer.score(trees), strict=True):
        np.testing.assert_allclose(scores.logprobs, lab.oracle_logprobs(exact, tree), atol=2e-5)


@pytest.mark.parametrize("mode", ["shadow", "in_place"])
def test_pushed_weights_serve_and_leave_no_memory_behind(lab, trees, tmp_path, mode):
    other = lab.make_model("qwen3", torch.float32)
    with torch.no_grad():
        other.lm_head.weight.mul_(0.5)
    save_file(
        {name: tensor.contiguous() for name, tensor in other.state_dict().items()}, tmp_path / "new.safetensors"
    )
    engine = TorchEngine(TreeScorer(load(lab, "qwen3")), weights_mode=mode)

    async def push() -> np.ndarray:
        await engine.score(trees[:1])
        before = allocated()
        await engine.load_weights(tmp_path / "new.safetensors", "1")
        (scores,) = await engine.score(trees[:1])
        assert allocated() <= before
        await engine.aclose()
        return scores.logprobs

    exact = lab.oracle_logprobs(other.double(), trees[0])
    np.testing.assert_allclose(asyncio.run(push()), exact, atol=2e-5)


def allocated():
    gc.collect()
    return torch.cuda.memory_allocated() if CUDA else 0


def test_greedy_sampling_takes_the_likeliest_token(lab):
    engine = TorchEngine(TreeScorer(load(lab, "qwen3")))
    prompt = lab.random_ids(1, 9)

    async def sample() -> np.ndarray:
        request = GenerationRequest(prompt, max_tokens=6, temperature=0.0)
        ((found,),) = await engine.generate([request])
        await engine.aclose()
        return found.token_ids

    ids, exact = prompt, lab.make_model("qwen3", torch.float64)
    for token in asyncio.run(sample()):
        assert token == int(exact(input_ids=torch.as_tensor(ids[None]).long()).logits[0, -1].argmax())
        ids = np.append(ids, token)


@pytest.mark.skipif(not CUDA, reason="a CPU's kernels are not compiled")
def test_a_kernel_is_compiled_once_for_all_trees_of_a_padded_length(lab):
    scorer = TreeScorer(load(lab, "qwen3"), route="flex")
    graphs = torch._dynamo.utils.counters["stats"]
    scorer.score([lab.group_tree(responses=(90, 40), seed=1)])
    before = graphs["unique_graphs"]
    for seed in range(2, 6):
        scorer.score([lab.group_tree(responses=(90, 40), seed=seed)])
    assert graphs["unique_graphs"] == before


@pytest.mark.skipif(not CUDA, reason="only a GPU's memory can be made small")
def test_a_device_without_room_computes_less_at_a_time(lab):
    loaded = load(lab, "llama")
    tree = lab.group_tree(responses=(100, 90, 80), cuts=9, reference=40)
    expected = TreeScorer(loaded, route="tree_sdpa").score([tree])[0].logprobs
    scorer = TreeScorer(loaded, route="tree_sdpa")
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(DEVICE).total_memory
    room = torch.cuda.memory_reserved() + 2**21
    hoard = torch.empty(2**20, dtype=torch.uint8, device=DEVICE)
    torch.cuda.set_per_process_memory_fraction(room / total)
    try:
        found = scorer.score([tree])[0].logprobs
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        del hoard
    np.testing.assert_allclose(found, expected, atol=2e-5)
