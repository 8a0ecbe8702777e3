"""Real vLLM with the plug-in (`make test-rollout`), real weights, and plain transformers as the oracle.

Without vLLM installed nothing here is collected, so the default suite needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from tests.vllm_on_cpu import INSTALLED, prepare

if not INSTALLED:
    collect_ignore_glob = ["test_*.py"]

prepare(VLLM_ENABLE_V1_MULTIPROCESSING="0")  # the scheduler is in this process, where a test can break it

BLOCK = 32
STEP_TOKENS = 128
"""`max_num_batched_tokens`: longer prompts are prefilled in chunks."""
NATS = 1e-4


@dataclass
class Oracle:
    """The model as transformers computes it, in float32."""

    path: Path
    _model: Any = field(init=False)

    def __post_init__(self) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self._model = AutoModelForCausalLM.from_pretrained(self.path, dtype=torch.float32).eval()
        self.vocab_size = int(self._model.config.vocab_size)
        self.logprobs = cache(self._logprobs)

    def _logprobs(self, ids: tuple[int, ...], start: int) -> np.ndarray:
        import torch

        with torch.inference_mode():
            rows = self._model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        return rows[torch.arange(start - 1, len(ids) - 1), torch.tensor(ids[start:])].numpy()

    def error(self, scored: Scored) -> float:
        """Return the largest difference in nats, one context in one plain pass."""
        assert len(scored.logprobs) == len(scored.ids) - scored.start, "a row is lost"
        return float(np.abs(self.logprobs(tuple(scored.ids), scored.start) - scored.logprobs).max())


@dataclass(frozen=True)
class Scored:
    """`ids[start:]` as vLLM scored it."""

    ids: Sequence[int]
    start: int
    logprobs: np.ndarray
    cached: int

    @property
    def computed(self) -> int:
        return len(self.ids) - self.cached


class Run(NamedTuple):
    """What vLLM gave for rollouts and scored prompts that it had at the same time."""

    responses: list[list[int]]
    sums: list[float]
    """Log-probability of each response, exact to the last bit."""
    scored: list[Scored]


class Engine:
    """vLLM in process, as a trainer runs it, and what a test wants of it."""

    def __init__(self, llm: Any) -> None:
        self.llm = llm
        self.scheduler = llm.llm_engine.engine_core.engine_core.scheduler

    def roll_out(self, prompt: Sequence[int], *, tokens: int, seed: int) -> list[int]:
        """Return one sampled response."""
        (output,) = self.llm.generate({"prompt_token_ids": list(prompt)}, rollout(tokens, seed=seed))
        return list(output.outputs[0].token_ids)

    def run(self, rollouts: Sequence[Sequence[int]], asked: Sequence[tuple[Sequence[int], int]] = ()) -> Run:
        """Hand vLLM greedy rollouts and scored prompts together."""
        prompts = [{"prompt_token_ids": list(ids)} for ids in [*rollouts, *(ids for ids, _ in asked)]]
        # Greedy: on a CPU, vLLM's seeded requests do not survive the chunked prefill of others.
        params = [rollout(120, temperature=0)] * len(rollouts) + [scoring(start) for _, start in asked]
        outputs = self.llm.generate(prompts, params)
        written = [output.outputs[0] for output in outputs[: len(rollouts)]]
        scored = [read(output, start) for output, (_, start) in zip(outputs[len(rollouts) :], asked, strict=True)]
        return Run([list(one.token_ids) for one in written], [one.cumulative_logprob for one in written], scored)

    def score(self, asked: Sequence[tuple[Sequence[int], int]]) -> list[Scored]:
        """Score `ids[start:]` for every (ids, start), all at once."""
        return self.run([], asked).scored

    def forget(self) -> None:
        assert self.llm.reset_prefix_cache()


def rollout(tokens: int, **more: Any) -> Any:
    from vllm import SamplingParams

    return SamplingParams(max_tokens=tokens, ignore_eos=True, logprobs=0, **more)


def scoring(start: int, **more: Any) -> Any:
    from vllm import SamplingParams

    from opera_vllm import FIRST_ROW

    extra = {"extra_args": {FIRST_ROW: start - 1}, **more}
    return SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=0, detokenize=False, **extra)


def read(output: Any, start: int) -> Scored:
    ids = list(output.prompt_token_ids)
    assert output.prompt_logprobs[0] is None
    rows = output.prompt_logprobs[1:]
    assert [next(iter(row)) for row in rows] == ids[start:], "exactly the scored rows, each of its own token"
    logprobs = np.array([row[target].logprob for row, target in zip(rows, ids[start:], strict=True)])
    return Scored(ids, start, logprobs, output.num_cached_tokens)


@pytest.fixture(scope="session")
def model() -> Path:
    import opera_demo

    return Path(opera_demo.__file__).parent / "model"


@pytest.fixture(scope="session")
def oracle(model: Path) -> Oracle:
    return Oracle(model)


@pytest.fixture(scope="session")
def prompt(model: Path) -> Callable[[int], list[int]]:
    """Make a prompt of real text of about `tokens` tokens."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)

    def make(number: int, tokens: int = 90) -> list[int]:
        text = f"Story {number}. " + "Mia has a red box. Tom takes the box to the shop. The dog sees Tom. " * 40
        return list(tokenizer(text)["input_ids"])[:tokens]

    return make


def start_engine(model: Path, **engine_args: Any) -> Engine:
    import vllm

    from opera_vllm import register

    register()
    common: dict[str, Any] = {
        "dtype": "float32",
        "max_model_len": 2048,
        "block_size": BLOCK,
        "max_num_batched_tokens": STEP_TOKENS,
        "max_num_seqs": 64,
        "enforce_eager": True,
        "seed": 0,
        "disable_log_stats": False,
    }
    return Engine(vllm.LLM(str(model), **{**common, **engine_args}))


@pytest.fixture(scope="session")
def engine(model: Path) -> Iterator[Engine]:
    return start_engine(model)
