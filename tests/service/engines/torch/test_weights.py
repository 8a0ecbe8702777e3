"""New weights in a serving model: every number becomes a fresh engine's, and whatever is wrong changes nothing."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from opera_client.errors import CanaryMismatch, InvalidWeights, NotSupported
from opera_service.engines.base import Probe
from opera_service.engines.torch.engine import TorchEngine
from opera_service.engines.torch.loading import LoadedModel
from opera_service.engines.torch.scorer import TreeScorer

MODES = ["shadow", "in_place"]
KINDS = ["qwen3", "qwen3_tied", "gpt2", "qwen3_next"]


def engine_of(lab: SimpleNamespace, kind: str = "qwen3_tied", mode: str = "shadow", dtype=torch.float32):
    return TorchEngine(TreeScorer(lab.load(kind, dtype)), weights_mode=mode)


def other_weights(lab: SimpleNamespace, kind: str, seed: int = 11, dtype=torch.float32):
    """The same architecture with other numbers everywhere."""
    model = lab.make_model(kind, dtype)
    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model


def save(tensors: dict[str, torch.Tensor], path: Path) -> Path:
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, path)
    return path


def pushed(model, path: Path) -> Path:
    """What a trainer writes: the state dict."""
    return save(model.state_dict(), path)


async def numbers(engine: TorchEngine, lab: SimpleNamespace) -> np.ndarray:
    scores = await engine.score([lab.group_tree(), lab.edge_tree()])
    assert {one.weight_version for one in scores} == {engine.info.weight_version}
    return np.concatenate([one.logprobs for one in scores])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
async def test_every_number_becomes_a_fresh_engines(lab: SimpleNamespace, tmp_path: Path, kind: str, mode: str):
    engine, new = engine_of(lab, kind, mode), other_weights(lab, kind)
    before = await numbers(engine, lab)
    await engine.load_weights(pushed(new, tmp_path / "new.safetensors"), "1")
    fresh = TorchEngine(TreeScorer(LoadedModel.of(new, name=kind)))
    after = await numbers(engine, lab)
    assert np.array_equal(after, await numbers(fresh, lab))
    assert np.abs(after - before).min() > 0
    assert engine.info.weight_version == "1"
    oracle = lab.oracle_logprobs(new, lab.group_tree())
    assert np.abs(after[: len(oracle)] - oracle).max() < 2e-4


@pytest.mark.parametrize("kind", ["qwen3", "qwen3_tied", "gpt2"])
async def test_a_folder_in_shards_is_one_checkpoint(lab: SimpleNamespace, tmp_path: Path, kind: str):
    engine, new = engine_of(lab, kind), other_weights(lab, kind)
    new.save_pretrained(tmp_path, max_shard_size="10KB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    await engine.load_weights(tmp_path, "1")
    assert np.array_equal(
        await numbers(engine, lab), await numbers(TorchEngine(TreeScorer(LoadedModel.of(new, name=""))), lab)
    )


async def test_a_trainers_dtype_is_cast_to_the_served_one(lab: SimpleNamespace, tmp_path: Path):
    engine, new = engine_of(lab), other_weights(lab, "qwen3_tied")
    half = {name: tensor.bfloat16() for name, tensor in new.state_dict().items()}
    await engine.load_weights(save(half, tmp_path / "half.safetensors"), "1")
    new.load_state_dict({name: tensor.float() for name, tensor in half.items()})
    assert engine.info.dtype == "float32"
    assert np.array_equal(
        await numbers(engine, lab), await numbers(TorchEngine(TreeScorer(LoadedModel.of(new, name=""))), lab)
    )


def cut_short(tensors: dict[str, torch.Tensor], path: Path) -> Path:
    save(tensors, path)
    path.write_bytes(path.read_bytes()[:-3])
    return path


def edited(**changes):
    def write(tensors: dict[str, torch.Tensor], path: Path) -> Path:
        for name, change in changes.items():
            full = name.replace("__", ".")
            if change is None:
                del tensors[full]
            else:
                tensors[full] = change(tensors.get(full))
        return save(tensors, path)

    return write


def poisoned(value: float):
    def poison(tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.clone()
        tensor.view(-1)[3] = value
        return tensor

    return poison


BAD = {
    "cut short": (cut_short, "cut short inside tensor"),
    "not a number": (edited(model__norm__weight=poisoned(float("nan"))), "'model.norm.weight' holds NaN"),
    "infinite": (edited(model__embed_tokens__weight=poisoned(float("inf"))), "'model.embed_tokens.weight' holds"),
    "missing": (edited(model__norm__weight=None), "'model.norm.weight' is missing"),
    "unexpected": (edited(extra=lambda _: torch.ones(2)), "'extra' is none of the model's"),
    "wrong shape": (
        edited(model__norm__weight=lambda t: t[:-1]),
        r"'model.norm.weight' has shape \[31\].* \[32\]",
    ),
    "transposed": (
        edited(model__layers__0__mlp__up_proj__weight=lambda t: t.T),
        r"'model.layers.0.mlp.up_proj.weight' has shape \[32, 48\]",
    ),
    "integers": (edited(model__norm__weight=lambda t: t.long()), "'model.norm.weight' has dtype I64"),
    "stale tie": (edited(lm_head__weight=lambda t: t + 1), "'model.embed_tokens.weight' differs from 'lm_head"),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", BAD)
async def test_a_bad_file_changes_nothing_and_is_told_by_its_tensor(
    lab: SimpleNamespace, tmp_path: Path, case: str, mode: str
):
    write, said = BAD[case]
    engine = engine_of(lab, mode=mode)
    before, info = await numbers(engine, lab), engine.info
    bad = write(dict(other_weights(lab, "qwen3_tied").state_dict()), tmp_path / "bad.safetensors")
    with pytest.raises(InvalidWeights, match=said):
        await engine.load_weights(bad, "1")
    assert engine.info == info
    assert np.array_equal(await numbers(engine, lab), before)
    assert engine.health().ok


@pytest.mark.parametrize("mode", MODES)
async def test_half_precision_must_hold_the_numbers(lab: SimpleNamespace, tmp_path: Path, mode: str):
    engine = engine_of(lab, mode=mode, dtype=torch.float16)
    large = edited(model__norm__weight=poisoned(1e6))
    tensors = dict(other_weights(lab, "qwen3_tied").state_dict())
    with pytest.raises(InvalidWeights, match=r"'model.norm.weight' holds NaN or infinity as float16"):
        await engine.load_weights(large(tensors, tmp_path / "large.safetensors"), "1")


@pytest.mark.parametrize("mode", MODES)
async def test_weights_that_the_probe_refuses_never_serve(lab: SimpleNamespace, tmp_path: Path, mode: str):
    engine = engine_of(lab, mode=mode)
    before, seen = await numbers(engine, lab), []

    def refuse(scores) -> None:
        seen.append(scores.logprobs)
        raise CanaryMismatch("not what was sent")

    new = other_weights(lab, "qwen3_tied")
    with pytest.raises(CanaryMismatch):
        await engine.load_weights(
            pushed(new, tmp_path / "new.safetensors"), "1", probe=Probe(lab.edge_tree(), refuse)
        )
    assert np.abs(seen[0] - lab.oracle_logprobs(new, lab.edge_tree())).max() < 2e-4, "it saw the new numbers"
    assert engine.info.weight_version == "0"
    assert np.array_equal(await numbers(engine, lab), before)


@pytest.mark.parametrize("mode", MODES)
async def test_finite_weights_with_infinite_numbers_are_refused(lab: SimpleNamespace, tmp_path: Path, mode: str):
    engine = engine_of(lab, mode=mode)
    before = await numbers(engine, lab)
    tensors = dict(other_weights(lab, "qwen3_tied").state_dict())
    huge = edited(**{f"model__layers__0__mlp__{part}_proj__weight": lambda t: t * 1e20 for part in ("up", "down")})
    with pytest.raises(InvalidWeights, match="not finite"):
        await engine.load_weights(
            huge(tensors, tmp_path / "huge.safetensors"), "1", probe=Probe(lab.edge_tree(), lambda _: None)
        )
    assert np.array_equal(await numbers(engine, lab), before)
    assert engine.health().ok


async def test_a_file_that_breaks_while_it_is_written_over_is_undone(lab: SimpleNamespace, tmp_path: Path):
    """In place, the old weights come back from host memory even half way through."""
    engine = engine_of(lab, mode="in_place")
    before = await numbers(engine, lab)
    path = pushed(other_weights(lab, "qwen3_tied"), tmp_path / "new.safetensors")
    revision = engine.weights.check(path)
    good = path.read_bytes()
    broken = load_file(path)
    last = list(json.loads(good[8 : 8 + int.from_bytes(good[:8], "little")]))[-1]
    broken[last] = broken[last] * float("nan")
    save_file(broken, path)
    with pytest.raises(InvalidWeights, match=last):
        engine.weights.overwrite(path, revision)
    assert np.array_equal(await numbers(engine, lab), before)
    pushed(other_weights(lab, "qwen3_tied", seed=12), path)
    with pytest.raises(InvalidWeights, match="changed while it was read"):
        engine.weights.overwrite(path, revision)
    assert np.array_equal(await numbers(engine, lab), before)


async def test_ties_stay_tied_over_many_loads(lab: SimpleNamespace, tmp_path: Path):
    engine = engine_of(lab)
    for seed in (1, 2, 3):
        new = other_weights(lab, "qwen3_tied", seed=seed)
        tensors = {name: tensor for name, tensor in new.state_dict().items() if name != "lm_head.weight"}
        await engine.load_weights(save(tensors, tmp_path / f"{seed}.safetensors"), str(seed))
        model = engine.scorer.loaded.model
        assert model.lm_head.weight is model.model.embed_tokens.weight
        assert np.array_equal(
            await numbers(engine, lab), await numbers(TorchEngine(TreeScorer(LoadedModel.of(new, name=""))), lab)
        )


def test_an_unknown_mode_is_refused(lab: SimpleNamespace):
    with pytest.raises(NotSupported, match="in_place"):
        TorchEngine(TreeScorer(lab.load("qwen3_tied")), weights_mode="sideways")  # type: ignore[arg-type]
