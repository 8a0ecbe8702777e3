"""One vLLM engine for the whole run (`make test-vllm`), and plain transformers as the oracle.

Without vLLM installed nothing here is collected, so the default suite needs none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from tests.vllm_on_cpu import INSTALLED, prepare

from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import ROOT, TokenTree, TreeBuilder

if not INSTALLED:
    collect_ignore_glob = ["test_*.py"]

prepare()

VOCAB = 512


@dataclass(frozen=True)
class Policy:
    """A tiny random model on disk; its embeddings are tied, which is the harder case for a weight swap."""

    path: Path

    @classmethod
    def make(
        cls,
        path: Path,
        seed: int,
        *,
        hidden_size: int = 64,
        layers: int = 3,
        heads: int = 4,
        length: int = 4096,
        vocab_size: int = VOCAB,
    ) -> Policy:
        import torch
        from transformers import Qwen3Config, Qwen3ForCausalLM

        torch.manual_seed(seed)
        config = Qwen3Config(
            vocab_size=vocab_size,
            hidden_size=hidden_size,
            intermediate_size=128,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads // 2,
            head_dim=32,
            max_position_embeddings=length,
            tie_word_embeddings=True,
            initializer_range=0.15,
            bos_token_id=None,
            eos_token_id=None,
        )
        Qwen3ForCausalLM(config).float().save_pretrained(path)
        return cls(path)

    def logits(self, ids: np.ndarray) -> np.ndarray:
        """Return float32[len(ids), V] from transformers, one plain forward pass."""
        import torch
        from transformers import Qwen3ForCausalLM

        if self.path not in _LOADED:
            _LOADED[self.path] = Qwen3ForCausalLM.from_pretrained(self.path, dtype=torch.float32).eval()
        with torch.inference_mode():
            return _LOADED[self.path](torch.from_numpy(ids.astype(np.int64))[None]).logits[0].numpy()

    def logprobs(self, ids: np.ndarray, start: int) -> np.ndarray:
        """Return log p(ids[start:] | what is before)."""
        rows = self.logits(ids)[start - 1 : len(ids) - 1].astype(np.float64)
        rows -= rows.max(axis=1, keepdims=True)
        rows -= np.log(np.exp(rows).sum(axis=1, keepdims=True))
        return np.take_along_axis(rows, ids[start:, None].astype(np.int64), axis=1)[:, 0]

    def error(self, tree: TokenTree, scores: TreeScores) -> float:
        """Return the largest difference in nats between `scores` and this model's own."""
        worst = 0.0
        for query in range(tree.num_queries):
            ids, start = tree.query_context(query)
            worst = max(worst, float(np.abs(scores.of(query) - self.logprobs(ids, start)).max()))
        return worst


_LOADED: dict[Path, object] = {}


@pytest.fixture(scope="session")
def policies(tmp_path_factory: pytest.TempPathFactory) -> tuple[Policy, Policy]:
    """Two sets of weights of one architecture; the engine starts on the first."""
    folder = tmp_path_factory.mktemp("models")
    return Policy.make(folder / "old", seed=1), Policy.make(folder / "new", seed=2)


@pytest.fixture(scope="session")
def old(policies: tuple[Policy, Policy]) -> Policy:
    return policies[0]


@pytest.fixture(scope="session")
def new(policies: tuple[Policy, Policy]) -> Policy:
    return policies[1]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def running(old: Policy) -> AsyncIterator[object]:
    from opera_service.engines.vllm.engine import VllmEngine

    engine = await VllmEngine.load(
        old.path,
        dtype="float32",
        max_model_len=2048,
        enforce_eager=True,
        max_num_batched_tokens=1024,
        max_num_seqs=64,
        inflight_tokens=40_000,
    )
    yield engine
    await engine.aclose()


@pytest_asyncio.fixture(loop_scope="session")
async def engine(running, old: Policy) -> AsyncIterator[object]:
    """The one engine, on the first weights, whatever the test before did."""
    if running.info.weight_version != "0":
        await running.load_weights(old.path, "0")
    yield running


GroupMaker = Callable[..., TokenTree]


@pytest.fixture
def group() -> GroupMaker:
    """Make a tree of n responses to one prompt, the reference scored at every boundary of every response."""

    def make(seed: int, *, prompt: int, cuts: list[list[int]], reference: int) -> TokenTree:
        rng = np.random.default_rng(seed)
        ids = lambda count: rng.integers(0, VOCAB, count)  # noqa: E731
        builder, target = TreeBuilder(), ids(reference)
        start = builder.extend(ROOT, ids(prompt))
        builder.score(start, target)
        for bounds in cuts:
            here, at = start, 0
            for bound in bounds:
                here, at = builder.extend(here, ids(bound - at)), bound
                builder.score(here, target)
        return builder.build()

    return make
