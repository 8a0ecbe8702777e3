"""LoRA adapters in a serving model: the numbers are PEFT's own, and the weights under them come back."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from opera_client.errors import CanaryMismatch, InvalidWeights
from opera_service.engines.adapter import adapter_revision
from opera_service.engines.base import Probe
from opera_service.engines.torch.engine import TorchEngine
from opera_service.engines.torch.scorer import TreeScorer

QWEN = {
    "r": 4, "lora_alpha": 24, "target_modules": ["q_proj", "down_proj", "gate_proj"],
    "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.1.mlp.down_proj": 3},
}  # fmt: skip
GPT2 = {"r": 3, "lora_alpha": 5, "target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}


def engine_of(lab: SimpleNamespace, kind: str, mode: str = "shadow") -> TorchEngine:
    return TorchEngine(TreeScorer(lab.load(kind, torch.float32)), weights_mode=mode)


def with_adapter(lab: SimpleNamespace, kind: str, folder: Path, seed: int = 0, **config):
    """A model with a random adapter beside its weights, which is saved as PEFT saves it."""
    config = {**(GPT2 if kind == "gpt2" else QWEN), **config}
    whole = lab.make_model(kind, torch.float32)
    torch.manual_seed(seed)
    model = get_peft_model(whole, LoraConfig(init_lora_weights=False, **config))
    model.save_pretrained(folder, save_embedding_layers=False)
    return model.base_model.model.eval()


async def logprobs(engine: TorchEngine, lab: SimpleNamespace) -> np.ndarray:
    (scores,) = await engine.score([lab.group_tree()])
    assert scores.weight_version == engine.info.weight_version
    return scores.logprobs


@pytest.mark.parametrize("mode", ["shadow", "in_place"])
@pytest.mark.parametrize(("kind", "config"), [("qwen3_tied", {}), ("qwen3", {"use_rslora": True}), ("gpt2", {})])
async def test_the_numbers_are_those_of_the_unmerged_model(lab, tmp_path, kind, config, mode):
    engine = engine_of(lab, kind, mode)
    before, under = await logprobs(engine, lab), engine.info
    peft_model = with_adapter(lab, kind, tmp_path / "a", **config)
    await engine.load_weights(tmp_path / "a", "lora-1")
    after = await logprobs(engine, lab)
    assert np.abs(after - lab.oracle_logprobs(peft_model, lab.group_tree())).max() < 2e-4
    assert np.abs(after - before).max() > 0.01
    assert engine.info.revision == adapter_revision(under.revision, tmp_path / "a")
    await engine.drop_adapter()
    assert np.array_equal(await logprobs(engine, lab), before)
    assert engine.info == under


async def test_one_adapter_takes_anothers_place(lab, tmp_path):
    engine = engine_of(lab, "qwen3")
    with_adapter(lab, "qwen3", tmp_path / "a", seed=1)
    await engine.load_weights(tmp_path / "a", "lora-1")
    other = with_adapter(
        lab, "qwen3", tmp_path / "b", seed=2, target_modules=["q_proj", "v_proj"], alpha_pattern={}
    )
    await engine.load_weights(tmp_path / "b", "lora-2")
    after = await logprobs(engine, lab)
    assert np.abs(after - lab.oracle_logprobs(other, lab.group_tree())).max() < 2e-4
    assert engine.info.revision.count("+") == 1


@pytest.mark.parametrize("mode", ["shadow", "in_place"])
async def test_whole_weights_end_an_adapter(lab, tmp_path, mode):
    engine = engine_of(lab, "qwen3", mode)
    before = await logprobs(engine, lab)
    whole = lab.make_model("qwen3", torch.float32)
    whole.save_pretrained(tmp_path / "whole")
    with_adapter(lab, "qwen3", tmp_path / "a")
    await engine.load_weights(tmp_path / "a", "lora-1")
    await engine.load_weights(tmp_path / "whole", "1")
    assert np.array_equal(await logprobs(engine, lab), before)
    await engine.drop_adapter()  # none is left
    assert engine.info.weight_version == "1"
    assert np.array_equal(await logprobs(engine, lab), before)


async def test_an_adapter_that_is_refused_leaves_everything(lab, tmp_path):
    engine = engine_of(lab, "qwen3")
    with_adapter(lab, "qwen3", tmp_path / "a", seed=1)
    await engine.load_weights(tmp_path / "a", "lora-1")
    served = await logprobs(engine, lab)
    with_adapter(lab, "qwen3", tmp_path / "b", seed=2)

    def refuse(_) -> None:
        raise CanaryMismatch("not what was sent")

    with pytest.raises(CanaryMismatch):
        await engine.load_weights(tmp_path / "b", "lora-2", probe=Probe(lab.edge_tree(), refuse))
    assert np.array_equal(await logprobs(engine, lab), served)
    assert engine.info.weight_version == "lora-1"
    await engine.drop_adapter()
    assert engine.info.weight_version == "0"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"peft_type": "IA3"}, "peft_type"),
        ({"lora_alpha": None}, "lora_alpha"),
        ({"lora_alpha": 10**400}, "lora_alpha"),
        ({"lora_alpha": "8" * 10_000}, "lora_alpha"),
        ({"alpha_pattern": ["q_proj"]}, "alpha_pattern"),
        ({"alpha_pattern": {"(": 1}}, "alpha_pattern"),
    ],
)
async def test_what_is_no_plain_lora_is_refused_by_name(lab, tmp_path, change, says):
    engine = engine_of(lab, "qwen3")
    with_adapter(lab, "qwen3", tmp_path / "a")
    path = tmp_path / "a" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InvalidWeights, match=says):
        await engine.load_weights(tmp_path / "a", "bad")


@pytest.mark.parametrize(
    ("kind", "config", "says"),
    [
        ("qwen3_tied", {"target_modules": ["lm_head"], "rank_pattern": {}, "alpha_pattern": {}}, "shares"),
        ("gpt2", {}, "no layer of the model"),
    ],
)
async def test_an_adapter_of_another_model_is_refused(lab, tmp_path, kind, config, says):
    engine = engine_of(lab, "qwen3_tied")
    with_adapter(lab, kind, tmp_path / "a", **config)
    with pytest.raises(InvalidWeights, match=says):
        await engine.load_weights(tmp_path / "a", "bad")
    assert engine.info.weight_version == "0"


async def test_numbers_that_are_not_finite_are_refused_by_tensor(lab, tmp_path):
    from safetensors.torch import load_file, save_file

    engine = engine_of(lab, "qwen3")
    with_adapter(lab, "qwen3", tmp_path / "a")
    path = tmp_path / "a" / "adapter_model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if "lora_B" in name)
    tensors[name][0, 0] = float("inf")
    save_file(tensors, path)
    with pytest.raises(InvalidWeights, match=name.replace(".", r"\.")):
        await engine.load_weights(tmp_path / "a", "bad")


async def test_a_lonely_factor_is_refused(lab, tmp_path):
    from safetensors.torch import load_file, save_file

    engine = engine_of(lab, "qwen3")
    with_adapter(lab, "qwen3", tmp_path / "a")
    path = tmp_path / "a" / "adapter_model.safetensors"
    tensors = load_file(path)
    del tensors[next(name for name in tensors if "q_proj.lora_A" in name)]
    save_file(tensors, path)
    with pytest.raises(InvalidWeights, match="lora_A of 'model.layers.0.self_attn.q_proj'".replace(".", r"\.")):
        await engine.load_weights(tmp_path / "a", "bad")
