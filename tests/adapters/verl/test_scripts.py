"""The examples as a user runs them: one for real, the one that needs GPUs until verl has read its flags."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from verl.trainer.ppo.checkpoint_callback import build_checkpoint_callback
from verl.trainer.ppo.v1 import PPOTrainer
from verl.utils.import_utils import load_class_from_fqn, load_extern_object

from opera_adapters.verl.settings import settings_of

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("route", ["groups", "members"])
def test_the_rollout_example_prints_every_component(service, tmp_path: Path, route: str) -> None:
    flags = ["--url", service.url, "--route", route, "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "examples/verl_rollout.py", *flags],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=280,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.endswith("finished")] == ["prompt0 finished", "prompt1 finished"]
    rewarded = [line for line in lines if "reward" in line and "opera/relative" in line]
    assert len(rewarded) == 8
    if route == "groups":  # the scorer is the very policy
        assert all(abs(float(re.search(r"'opera/scorer_kl': (\S+?)[,}]", line)[1])) < 1e-4 for line in rewarded)


def test_verl_understands_every_flag_of_the_documentation() -> None:
    page = (ROOT / "docs" / "trainers" / "verl.md").read_text()
    blocks = [shlex.split(block, comments=True) for block in re.findall(r"^```\n(.*?)^```", page, re.M | re.S)]
    assert len(blocks) == 5
    with initialize_config_module("verl.trainer.config", version_base=None):
        loop, manager, function, sampler, callback = (compose("ppo_trainer", flags) for flags in blocks)
    for config in (loop, manager, function):
        assert settings_of(config).url == "http://scorer:8000"
    named = loop.actor_rollout_ref.rollout.agent.agent_loop_manager_class
    assert load_class_from_fqn(named).__name__ == "OperaAgentLoopManager"
    assert load_extern_object(manager.reward.reward_manager.module.path, manager.reward.reward_manager.name)
    given = OmegaConf.to_container(function.reward.custom_reward_function, resolve=True)
    assert given["reward_kwargs"] == {"group_size": 1, "opera": {"url": "http://scorer:8000"}}
    assert load_extern_object(given["path"], given["name"])
    assert sampler.trainer.v1.sampler.custom_sampler.name == "LoggingReplayBuffer"
    assert settings_of(callback).max_lag == callback.trainer.save_freq
    assert type(build_checkpoint_callback(callback)).__name__ == "OperaCheckpointCallback"


def test_verl_understands_every_flag_of_the_training_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("OPERA_REWARD_URL", "http://scorer:8000")
    said = subprocess.run([ROOT / "examples" / "verl_grpo.sh"], capture_output=True, text=True, check=True).stdout
    module, *flags = said.splitlines()[1:]
    assert module == "verl.trainer.main_ppo"
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer", flags)
    assert settings_of(config).max_lag == config.trainer.save_freq
    assert type(build_checkpoint_callback(config)).__name__ == "OperaCheckpointCallback"
    named = config.actor_rollout_ref.rollout.agent.agent_loop_manager_class
    assert load_class_from_fqn(named).__name__ == "OperaAgentLoopManager"
    trainer = SimpleNamespace(
        config=config, trainer_mode=config.trainer.v1.trainer_mode, _add_prompts_to_generate=lambda count: count
    )
    buffer = PPOTrainer._build_replay_buffer(trainer)
    assert type(buffer).__name__ == "LoggingReplayBuffer"
    assert buffer.sync_refill_failed_groups
    assert OmegaConf.select(config, "reward.num_workers") == 1
