"""Real TRL trainers on the embedded model against a real service over loopback.

Without TRL installed nothing here is collected: `make test-adapters` runs it in an environment of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import pytest

if find_spec("trl") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from opera_demo import model_path

from tests.adapters.gate import Gate, serving

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def gate() -> Iterator[Gate]:
    """The service, with the embedded model."""
    with serving(engine="torch") as served:
        yield served


@pytest.fixture
def model() -> Any:
    """The policy, fresh for every test."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(model_path(), dtype=torch.float32)


@pytest.fixture
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(model_path())


@pytest.fixture
def options(tmp_path: Any) -> Callable[..., dict[str, Any]]:
    """Arguments of a short training on the CPU; the caller's win."""

    def build(**changes: Any) -> dict[str, Any]:
        return {
            "output_dir": str(tmp_path), "max_steps": 3, "per_device_train_batch_size": 8, "num_generations": 4,
            "max_completion_length": 48, "learning_rate": 1e-4, "logging_steps": 1, "save_strategy": "no",
            "report_to": "none", "use_cpu": True, "bf16": False, "seed": 1, "disable_tqdm": True, **changes,
        }  # fmt: skip

    return build
