"""LoRA adapters on vLLM: the numbers are those of the merged model, and every way back is right."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from opera_client.errors import InvalidWeights, NotSupported

pytestmark = pytest.mark.asyncio(loop_scope="module")
NATS = 1e-4


LAYERS = {"q_proj": (128, 64), "v_proj": (64, 64), "o_proj": (64, 128)}


def make_adapter(folder: Path, seed: int, *, rank: int = 4, layers=LAYERS, **config: object) -> Path:
    from safetensors.numpy import save_file

    rng = np.random.default_rng(seed)
    tensors = {}
    for layer in range(3):
        for name, (rows, columns) in layers.items():
            base = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            tensors[f"{base}.lora_A.weight"] = rng.normal(0, 0.3, (rank, columns)).astype(np.float32)
            tensors[f"{base}.lora_B.weight"] = rng.normal(0, 0.3, (rows, rank)).astype(np.float32)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    about = {"peft_type": "LORA", "r": rank, "lora_alpha": 8, "target_modules": list(layers), "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(about | config))
    return folder


def merged(policy, adapter: Path, folder: Path):
    """Return the model with the adapter merged in by hand."""
    from safetensors.numpy import load_file, save_file

    config = json.loads((adapter / "adapter_config.json").read_text())
    factors = load_file(adapter / "adapter_model.safetensors")
    tensors = load_file(policy.path / "model.safetensors")
    for name in [name for name in factors if ".lora_A." in name]:
        weight = name.removeprefix("base_model.model.").replace("lora_A.weight", "weight")
        update = factors[name.replace("lora_A", "lora_B")] @ factors[name]
        tensors[weight] = tensors[weight] + config["lora_alpha"] / config["r"] * update
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_bytes((policy.path / "config.json").read_bytes())
    return type(policy)(folder)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(old) -> AsyncIterator[object]:
    from opera_service.engines.vllm.engine import VllmEngine

    engine = await VllmEngine.load(
        old.path, dtype="float32", max_model_len=512, enforce_eager=True, max_num_seqs=16,
        enable_lora=True, max_lora_rank=8,
    )  # fmt: skip
    yield engine
    await engine.aclose()


async def test_an_adapter_serves_and_goes_again(engine, old, new, group, tmp_path):
    tree = group(60, prompt=64, cuts=[[32, 96, 200]], reference=12)
    (before,) = await engine.score([tree])
    one = make_adapter(tmp_path / "one", 1)
    await engine.load_weights(one, "lora-1")
    (scored,) = await engine.score([tree])
    assert scored.weight_version == "lora-1"
    assert merged(old, one, tmp_path / "m1").error(tree, scored) < NATS
    assert np.abs(scored.logprobs - before.logprobs).max() > 0.1
    two = make_adapter(tmp_path / "two", 2, rank=8)
    await engine.load_weights(two, "lora-2")
    assert merged(old, two, tmp_path / "m2").error(tree, (await engine.score([tree]))[0]) < NATS
    await engine.drop_adapter()
    (after,) = await engine.score([tree])
    assert after.weight_version == "0"
    assert old.error(tree, after) < NATS
    # Whole weights come in under a running LoRA setup, and an adapter on top of those.
    await engine.load_weights(two, "lora-2")
    await engine.load_weights(new.path, "step-1")
    assert new.error(tree, (await engine.score([tree]))[0]) < NATS
    await engine.load_weights(one, "lora-3")
    assert merged(new, one, tmp_path / "m3").error(tree, (await engine.score([tree]))[0]) < NATS


async def test_a_crash_brings_the_adapter_back(engine, old, group, tmp_path):
    await engine.load_weights(old.path, "again")
    adapter = make_adapter(tmp_path / "kept", 3)
    await engine.load_weights(adapter, "lora-kept")
    engine._core.kill()
    async with asyncio.timeout(240):
        while not engine.health().ok or not engine._restarts:  # noqa: ASYNC110  its own watch finds out
            await asyncio.sleep(0.2)
    tree = group(61, prompt=40, cuts=[[30, 60]], reference=7)
    (scored,) = await engine.score([tree])
    assert scored.weight_version == "lora-kept"
    assert merged(old, adapter, tmp_path / "m").error(tree, scored) < NATS
    await engine.drop_adapter()
    assert engine.info.weight_version == "again"


async def test_an_adapter_that_would_be_wrong_is_refused(engine, old, group, tmp_path):
    tree = group(62, prompt=40, cuts=[[30]], reference=7)
    await engine.load_weights(old.path, "plain")
    with pytest.raises(NotSupported, match="max_lora_rank 16"):
        await engine.load_weights(make_adapter(tmp_path / "large", 4, rank=9), "bad")
    with pytest.raises(NotSupported, match="alpha_pattern"):
        await engine.load_weights(make_adapter(tmp_path / "own", 4, alpha_pattern={"q_proj": 1}), "bad")
    with pytest.raises(NotSupported, match="lora_target_modules"):
        await engine.load_weights(make_adapter(tmp_path / "fc", 4, layers={"fc9": (64, 64)}), "bad")
    with pytest.raises(InvalidWeights, match="use_dora"):
        await engine.load_weights(make_adapter(tmp_path / "dora", 4, use_dora=True), "bad")
    (scored,) = await engine.score([tree])
    assert scored.weight_version == "plain"
    assert old.error(tree, scored) < NATS
