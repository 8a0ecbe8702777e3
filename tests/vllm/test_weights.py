"""Weight swaps: every number is of one version, stale caches are seen, a bad load changes nothing."""

from __future__ import annotations

import asyncio

import pytest

from opera_client.errors import CanaryMismatch, EngineFailed, InvalidWeights
from opera_service.engines.base import Probe
from opera_service.engines.vllm import probe

pytestmark = pytest.mark.asyncio(loop_scope="session")
NATS = 1e-4


async def test_a_swap_changes_every_number_to_the_new_model(engine, old, new, group):
    """Tied embeddings: the logits' packed copy and the cached keys must both be the new ones."""
    tree = group(20, prompt=64, cuts=[[32, 96, 200]], reference=12)
    (before,) = await engine.score([tree])
    revision = engine.info.revision
    await engine.load_weights(new.path, "step-1")
    (after,) = await engine.score([tree])
    assert old.error(tree, before) < NATS
    assert new.error(tree, after) < NATS
    assert (before.weight_version, after.weight_version) == ("0", "step-1")
    assert engine.info.weight_version == "step-1"
    assert engine.info.revision != revision


async def test_nothing_is_mixed_under_load(engine, old, new, group):
    trees = [group(30 + i, prompt=40, cuts=[[64, 150], [130, 131]], reference=10) for i in range(12)]
    scored: list[tuple[int, object]] = []

    async def keep_scoring(index: int) -> None:
        for _ in range(4):
            (scores,) = await engine.score([trees[index]])
            scored.append((index, scores))

    async def keep_swapping() -> None:
        for version, policy in (("step-1", new), ("step-2", old), ("step-3", new)):
            await asyncio.sleep(0.05)
            await engine.load_weights(policy.path, version)

    await asyncio.gather(keep_swapping(), *(keep_scoring(i) for i in range(len(trees))))
    served = {"0": old, "step-1": new, "step-2": old, "step-3": new}
    assert len({scores.weight_version for _, scores in scored}) > 1
    assert max(served[s.weight_version].error(trees[i], s) for i, s in scored) < NATS


async def test_the_probe_sees_a_cache_of_other_weights(engine, new):
    core = engine._core
    await probe.fill(core)
    await core._llm.collective_rpc("opera_load", args=(str(new.path),))  # what a careless reload does
    try:
        with pytest.raises(EngineFailed, match="entries of other weights"):
            await probe.check(core)
    finally:
        await engine.load_weights(new.path, "step-9")


async def test_the_probe_refuses_a_scheduler_that_does_not_cap(engine):
    core = engine._core

    class Uncapped(type(core)):
        def _scoring(self, prompt, *, recompute):
            params = super()._scoring(prompt, recompute=recompute)
            params.extra_args = None
            return params

    with pytest.raises(EngineFailed, match=r"vllm==0\.32\.0"):
        await probe.check(Uncapped(core._llm))


async def test_weights_that_do_not_fit_leave_the_old_ones(engine, old, group, tmp_path):
    wider = type(old).make(tmp_path / "wider", seed=3, hidden_size=96)
    with pytest.raises(InvalidWeights, match="shape"):
        await engine.load_weights(wider.path, "bad")
    cut = tmp_path / "cut"
    cut.mkdir()
    (cut / "model.safetensors").write_bytes((old.path / "model.safetensors").read_bytes()[:-5])
    with pytest.raises(InvalidWeights, match="cut short"):
        await engine.load_weights(cut, "bad")
    with pytest.raises(InvalidWeights, match="not a folder"):
        await engine.load_weights(tmp_path / "nothing", "bad")
    tree = group(40, prompt=30, cuts=[[50]], reference=5)
    (scores,) = await engine.score([tree])
    assert scores.weight_version == "0"
    assert old.error(tree, scores) < NATS


async def test_weights_that_are_not_numbers_leave_the_old_ones(engine, old, group, tmp_path):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(old.path / "model.safetensors")
    tensors["model.norm.weight"][:] = float("nan")
    broken = tmp_path / "nan"
    broken.mkdir()
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EngineFailed, match="'0' serves"):
        await engine.load_weights(broken, "bad")
    tree = group(41, prompt=30, cuts=[[50]], reference=5)
    (scores,) = await engine.score([tree])
    assert scores.weight_version == "0"
    assert old.error(tree, scores) < NATS


async def test_a_load_whose_caller_goes_away_still_ends_on_one_version(engine, old, new, group):
    loading = asyncio.create_task(engine.load_weights(new.path, "step-1"))
    await asyncio.sleep(0.03)
    loading.cancel()
    tree = group(42, prompt=30, cuts=[[50]], reference=5)
    (scores,) = await engine.score([tree])
    assert {"0": old, "step-1": new}[scores.weight_version].error(tree, scores) < NATS
    await engine.load_weights(old.path, "0")


async def test_weights_that_the_probe_refuses_never_serve(engine, old, new, group):
    tree, seen = group(43, prompt=30, cuts=[[50]], reference=5), []

    def refuse(scores) -> None:
        seen.append(scores)
        raise CanaryMismatch("not what was sent")

    with pytest.raises(CanaryMismatch):
        await engine.load_weights(new.path, "bad", probe=Probe(tree, refuse))
    assert new.error(tree, seen[0]) < NATS
    (scores,) = await engine.score([tree])
    assert scores.weight_version == "0"
    assert old.error(tree, scores) < NATS
