"""Checkpoints in verl's layout become the weights that serve, through verl's own hook."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from tests.adapters.verl.conftest import ADMIN_KEY
from tests.adapters.verl.rollouts import configuration
from verl.trainer.ppo.checkpoint_callback import build_checkpoint_callback

from opera_client import RewardClient
from opera_client.errors import Forbidden, InvalidRequest, NotSupported, Unauthorized
from opera_demo import model_path

CALLBACK = {
    "trainer__checkpoint_callback_class": "opera_adapters.verl.OperaCheckpointCallback",
    "trainer__save_freq": 1,
    "actor_rollout_ref__actor__checkpoint__save_contents": ["model", "hf_model"],
    "reward__opera__run_id": "run-7",
    "reward__opera__timeout_s": 60,
}


def callback(url: str, **changes: Any) -> Any:
    return build_checkpoint_callback(configuration(url, **{**CALLBACK, **changes}))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """global_step_5, its tensors moved a little."""
    folder = tmp_path / "global_step_5" / "actor" / "huggingface"
    shutil.copytree(model_path(), folder)
    tensors = load_file(folder / "model.safetensors")
    save_file({name: tensor * 1.01 for name, tensor in tensors.items()}, folder / "model.safetensors")
    return tmp_path / "global_step_5"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPERA_ADMIN_KEY", ADMIN_KEY)


@pytest.mark.parametrize("way", ["push", "load"])
def test_a_saved_checkpoint_serves(serve: Callable[..., Any], checkpoint: Path, way: str) -> None:
    with serve("--engine", "torch", "--policy-root", str(checkpoint.parent)) as service:
        with RewardClient(service.url) as client:
            before = client.policy().canary
        callback(service.url, reward__opera__weights=way).on_save(
            trainer=None, global_step=5, checkpoint_dir=str(checkpoint), async_save=False
        )
        with RewardClient(service.url) as client:
            after = client.policy()
        assert after.weight_version == "run-7/5"
        assert after.canary.mean_logprob != before.mean_logprob


def test_a_wrong_key_ends_the_training(service, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPERA_ADMIN_KEY", "wrong")
    with pytest.raises((Unauthorized, Forbidden)):
        callback(service.url).on_save(trainer=None, global_step=5, checkpoint_dir=str(checkpoint))


def test_a_service_that_is_away_does_not(checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    away = callback("http://127.0.0.1:9", reward__opera__timeout_s=1)
    away.on_save(trainer=None, global_step=5, checkpoint_dir=str(checkpoint))
    assert "step 5 did not reach the service" in caplog.text


def test_a_checkpoint_out_of_sight_is_told_so(service, tmp_path: Path) -> None:
    with pytest.raises(NotSupported, match="share the folder"):
        callback(service.url).on_save(trainer=None, global_step=5, checkpoint_dir=str(tmp_path))


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("actor_rollout_ref__actor__checkpoint__save_contents", ["model"], "hf_model"),
        ("actor_rollout_ref__actor__checkpoint__async_save", True, "async_save"),
        ("trainer__save_freq", -1, "save_freq"),
        ("reward__opera__weight", "push", "none of the keys"),
    ],
)
def test_a_configuration_without_weights_is_refused_at_once(name: str, value: Any, line: str) -> None:
    with pytest.raises(InvalidRequest, match=line):
        callback("http://127.0.0.1:9", **{name: value})
