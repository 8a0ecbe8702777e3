"""Weights on their way: files, bytes and shards travel whole, retries are harmless, errors keep their type."""

import asyncio
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save, save_file

from opera_client import AsyncRewardClient, RewardClient
from opera_client._weights import WeightBody
from opera_client.errors import CanaryMismatch, Forbidden, InvalidRequest, InvalidWeights
from opera_service.server.app import create_app
from opera_service.server.settings import Settings


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPERA_API_KEYS", "OPERA_API_KEY_FILE", "OPERA_ADMIN_KEYS", "OPERA_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def salted(salt: int) -> bytes:
    return save({"salt": np.array(salt)})


async def sent(weights: Path | str | bytes) -> bytes:
    body = WeightBody.of(weights)
    data = b"".join([piece async for piece in body.pieces()])
    assert len(data) == body.size
    assert hashlib.sha256(data).hexdigest() == await body.sha256()
    return data


async def test_a_file_and_its_bytes_travel_as_they_are(tmp_path: Path):
    large = save({"a": np.random.default_rng(0).normal(size=400_000)})
    (tmp_path / "model.safetensors").write_bytes(large)
    assert len(large) > 2**21, "more than one piece"
    assert await sent(large) == large
    assert await sent(tmp_path / "model.safetensors") == large
    assert await sent(str(tmp_path)) == large


async def test_shards_travel_as_one_file(tmp_path: Path):
    rng = np.random.default_rng(1)
    tensors = {f"t{number}": rng.normal(size=(number + 1, 3)).astype(np.float32) for number in range(5)}
    names = list(tensors)
    for number, part in enumerate((names[:2], names[2:4], names[4:])):
        save_file(
            {name: tensors[name] for name in part}, tmp_path / f"model-{number}.safetensors", {"format": "pt"}
        )
    whole = load(await sent(tmp_path))
    assert whole.keys() == tensors.keys()
    assert all(np.array_equal(whole[name], tensors[name]) for name in tensors)
    index = {"weight_map": dict.fromkeys(names[:2], "model-0.safetensors")}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert load(await sent(tmp_path)).keys() == set(names[:2]), "only what the index names"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "holds no"),
        ({"a.safetensors": b"x" * 20, "b.safetensors": b"y" * 20}, "is no safetensors file"),
        ({"a.safetensors": salted(1), "b.safetensors": salted(2)}, "'salt' is in several files"),
        ({"model.safetensors.index.json": b"[]"}, "index.json cannot be read"),
        ({"model.safetensors.index.json": b'{"weight_map": {"a": "gone.safetensors"}}'}, "cannot be read"),
    ],
)
def test_a_folder_that_is_no_checkpoint_is_refused_before_anything_is_sent(tmp_path: Path, files: dict, said: str):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidRequest, match=said):
        WeightBody.of(tmp_path)


def test_what_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(InvalidRequest, match="nothing at"):
        WeightBody.of(tmp_path / "gone")


def test_pushed_weights_serve(tmp_path: Path):
    with RewardClient.in_process(engine="dummy", policy_root=(tmp_path,)) as client:
        before = client.policy()
        result = client.push_weights(salted(3), "1")
        assert (result.previous_version, result.weight_version, result.changed) == ("0", "1", True)
        assert result.canary_before == before.canary.mean_logprob != result.canary.mean_logprob
        assert client.policy() == type(before).model_validate(result.model_dump())
        assert not client.push_weights(salted(3), "1").changed
        (tmp_path / "w.safetensors").write_bytes(salted(4))
        assert client.load_policy(str(tmp_path / "w.safetensors"), "2").weight_version == "2"
        assert client.score([{"context": "a", "target": "b"}], weight_version="2").model.weight_version == "2"


def test_refusals_keep_their_type(tmp_path: Path):
    with RewardClient.in_process(engine="dummy") as client:
        with pytest.raises(InvalidWeights, match="'salt' is missing"):
            client.push_weights(save({}), "1")
        with pytest.raises(CanaryMismatch):
            client.push_weights(salted(1), "1", canary_logprob=-100.0)
        with pytest.raises(Forbidden):
            client.load_policy("/etc/passwd", "1")
        with pytest.raises(InvalidRequest) as caught:
            client.push_weights(salted(1), "a b")
        assert caught.value.field == "weight_version"
        assert client.policy().weight_version == "0"


async def test_a_busy_service_is_asked_again():
    app = create_app(Settings(engine="dummy"))
    async with AsyncRewardClient.in_process(app) as client:
        await client.health()
        runtime = app.state.lifecycle.runtime
        with runtime.weights.turn():
            pushing = asyncio.create_task(client.push_weights(salted(1), "1"))
            while b'outcome="policy_busy"' not in runtime.metrics.render():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert (await pushing).changed
