"""A real GRPO training of TRL that scores on the vLLM it samples with, against a separate service."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from tests.rollout.test_server import serve

from opera_adapters.reward import OperaReward
from opera_client import RewardClient

NATS = 1e-4
PROGRAM = Path(__file__).parent / "trl_run.py"
pytestmark = pytest.mark.skipif(find_spec("trl") is None, reason="TRL is not installed beside vLLM")


@pytest.fixture(scope="module")
def untied(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model with a head of its own: reloading leaves a tied one behind in vLLM on a CPU."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("untied")
    made = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, tie_word_embeddings=False)
    made.get_output_embeddings().weight.data.copy_(made.get_input_embeddings().weight.data)
    made.save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("mode", ["colocate", "server"])
def test_a_grpo_run_scores_on_its_own_engine(mode: str, untied: Path, tmp_path: Path) -> None:
    if mode == "colocate":
        train(untied, tmp_path)
    else:
        with serve(untied, VLLM_SERVER_DEV_MODE="1") as server:
            train(untied, tmp_path, str(server.http.base_url))
    seen = []
    for number in range(3):
        call = json.loads((tmp_path / f"call-{number}.json").read_text())
        assert call["route"] == "prefix-cache", call["reason"]
        weights = str(tmp_path / f"weights-{number}")
        with RewardClient.in_process(engine="torch", model=weights, dtype="float32") as service:
            separate = OperaReward(client=service, num_generations=4, config=call["config"])
            expected = asyncio.run(
                separate(call["prompts"], call["completions"], call["completion_ids"], reference=call["reference"])
            )
        assert None not in call["rewards"]
        np.testing.assert_allclose(call["rewards"], expected, atol=NATS)
        seen.append(tuple(call["rewards"]))
    assert len(set(seen)) == 3
    log = json.loads((tmp_path / "log.json").read_text())
    assert [step["opera/scored"] for step in log if "opera/scored" in step] == [1, 1, 1]
    assert any(step["grad_norm"] > 0 for step in log if "grad_norm" in step)


def train(model: Path, folder: Path, *url: str) -> None:
    """Run the training in a process of its own, as vLLM wants it."""
    environment = {name: value for name, value in os.environ.items() if name != "VLLM_ENABLE_V1_MULTIPROCESSING"}
    ended = subprocess.run(
        [sys.executable, str(PROGRAM), str(model), str(folder), *url],
        env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
