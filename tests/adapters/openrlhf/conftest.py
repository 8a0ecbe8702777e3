"""OpenRLHF's own rollout code, unchanged, on canned answers, against a real service over loopback.

Without OpenRLHF installed nothing here is collected: `make test-adapters` runs it in an environment of its own.
Stubs stand in the place of vLLM, DeepSpeed and flash-attn, which need a GPU; nothing of them is under test.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.gate import Gate, serving

STUBS = Path(__file__).with_name("stubs")

if find_spec("openrlhf") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.path.insert(0, str(STUBS))
    from openrlhf.trainer.ray.vllm_engine import RolloutRayActor
    from transformers import AutoTokenizer
    from vllm import SamplingParams

    from opera_demo import model_path

Generate = Callable[..., Awaitable[list[dict[str, Any]]]]

EXAMPLE = Path(__file__).parents[3] / "examples" / "openrlhf_agent.py"


def answers(count: int, first: int = 0) -> list[str]:
    """Distinct answers, some right somewhere."""
    return [
        f"<think>\nThere were {at} coins.\n\nWait, {at % 7} more came.\n\n</think>\n\nThe kitchen has {at} coins."
        for at in range(first, first + count)
    ]


def write(path: Path, texts: list[str]) -> None:
    """Write what the engine of that name answers."""
    path.write_text(json.dumps(texts))


@pytest.fixture(scope="session")
def gates() -> Iterator[dict[str, Gate]]:
    """The service twice, a gate before each of the two endpoints."""
    with (
        serving(engine="torch") as group,
        serving(engine="torch", watched="/openrlhf/reward") as sample,
    ):
        yield {"/reward": group, "/openrlhf/reward": sample}


@pytest.fixture
def group_service(gates: dict[str, Gate], monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """The service that the executor asks."""
    gates["/reward"].open()
    monkeypatch.setenv("OPERA_REWARD_URL", gates["/reward"].url)
    yield gates["/reward"]
    gates["/reward"].open()


@pytest.fixture
def sample_service(gates: dict[str, Gate]) -> Iterator[Gate]:
    """The service behind `--reward.remote_url`."""
    gates["/openrlhf/reward"].open()
    yield gates["/openrlhf/reward"]
    gates["/openrlhf/reward"].open()


@pytest.fixture
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(model_path())


@pytest.fixture
def actor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Awaitable[Any]]:
    """Make OpenRLHF's rollout actor, in this process, with the given texts as the engine's answers."""
    monkeypatch.setenv("RAY_ADDRESS", "nowhere")  # it only passes it on to vLLM

    numbers = itertools.count()

    async def build(texts: list[str], **kwargs: Any) -> Any:
        model = tmp_path / f"{next(numbers)}.json"
        write(model, texts)
        kind = RolloutRayActor.__ray_metadata__.modified_class
        made = kind.__new__(kind)
        await kind.__init__(made, num_gpus=0, model=str(model), **kwargs)
        return made

    return build


@pytest.fixture
def generate(tokenizer: Any) -> Generate:
    """Ask an actor for samples of a prompt, every call with sampling parameters of its own, as Ray makes them."""

    async def ask(engine: Any, prompt: str, label: str, size: int, **options: Any) -> list[dict[str, Any]]:
        return await engine.generate_responses(
            prompt=prompt,
            label=label,
            sampling_params=SamplingParams(max_tokens=options.pop("max_tokens", 128), logprobs=1),
            max_length=options.pop("max_length", 512),
            hf_tokenizer=tokenizer,
            num_samples=size,
            **options,
        )

    return ask
