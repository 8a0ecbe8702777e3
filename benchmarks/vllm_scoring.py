"""Scoring a group through vLLM: shared prefixes (this engine) against vLLM's own `prompt_logprobs`.

    VLLM_CPU_KVCACHE_SPACE=1 .venv-vllm/bin/python benchmarks/vllm_scoring.py --responses 2 --segments 16

Both ways run in one process on the same engine, turn by turn, on the same trees, each on a cold cache.
`measure` is what other benchmarks import. It knows no reward and no text.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
from vllm import SamplingParams
from vllm.inputs import tokens_input
from vllm.sampling_params import RequestOutputKind

from opera_service.engines.vllm.engine import VllmEngine
from opera_service.scoring.tree import ROOT, TokenTree, TreeBuilder


@dataclass(frozen=True)
class Shape:
    """A group: n responses to one prompt, the reference scored at every boundary of every response."""

    responses: int = 2
    segments: int = 16
    response_tokens: int = 2048
    reference_tokens: int = 128
    prompt_tokens: int = 256

    def tree(self, seed: int, vocab_size: int) -> TokenTree:
        rng = np.random.default_rng(seed)
        builder, reference = TreeBuilder(), rng.integers(0, vocab_size, self.reference_tokens)
        start = builder.extend(ROOT, rng.integers(0, vocab_size, self.prompt_tokens))
        builder.score(start, reference)
        for _ in range(self.responses):
            ids = rng.integers(0, vocab_size, self.response_tokens)
            inner = rng.choice(np.arange(1, self.response_tokens), self.segments - 1, replace=False)
            here, at = start, 0
            for bound in [*sorted(inner.tolist()), self.response_tokens]:
                here, at = builder.extend(here, ids[at:bound]), bound
                builder.score(here, reference)
        return builder.build()


@dataclass(frozen=True)
class Row:
    """One line of the table: medians over the rounds."""

    method: str
    tokens_computed: int
    per_distinct_token: float
    seconds: float
    times_faster: float
    largest_difference: float
    """Nats, from vLLM's own `prompt_logprobs`."""


Scored = tuple[np.ndarray, int]
"""Log-probabilities in the order of the tree's targets, and tokens computed."""


async def measure(engine: VllmEngine, shape: Shape, *, rounds: int = 3) -> list[Row]:
    """Score `rounds` fresh trees by each method, turn by turn."""
    llm = engine._core._llm  # type: ignore[union-attr]

    async def shared(tree: TokenTree) -> Scored:
        (scores,) = await engine.score([tree])
        return np.asarray(scores.logprobs), scores.tokens_computed

    async def default(tree: TokenTree) -> Scored:
        found = await asyncio.gather(*(_default_query(llm, tree, query) for query in range(tree.num_queries)))
        return np.concatenate([logprobs for logprobs, _ in found]), sum(computed for _, computed in found)

    async def cold(way: Callable[[TokenTree], Awaitable[Scored]], tree: TokenTree) -> tuple[Scored, float]:
        await llm.reset_prefix_cache()
        return await _timed(way(tree))

    await default(shape.tree(10_000, engine.info.vocab_size))  # shape-dependent first-run costs
    await shared(shape.tree(10_001, engine.info.vocab_size))
    methods = {"vLLM prompt_logprobs": [], "opera-reward, cold": [], "opera-reward, repeated": []}  # type: ignore[var-annotated]
    distinct = 0
    for seed in range(rounds):
        tree = shape.tree(seed, engine.info.vocab_size)
        distinct = tree.num_tokens
        (exact, _), _ = baseline = await cold(default, tree)
        for name, outcome in zip(
            methods, (baseline, await cold(shared, tree), await _timed(shared(tree))), strict=True
        ):
            (logprobs, computed), seconds = outcome
            methods[name].append((computed, seconds, float(np.abs(logprobs - exact).max())))
    slowest = median(seconds for _, seconds, _ in methods["vLLM prompt_logprobs"])
    return [_row(name, runs, distinct, slowest) for name, runs in methods.items()]


async def _default_query(llm: object, tree: TokenTree, query: int) -> Scored:
    ids, context = tree.query_path(query)
    params = SamplingParams(
        prompt_logprobs=0,
        flat_logprobs=True,
        max_tokens=1,
        temperature=0,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
    output = None
    name = f"default-{id(tree)}-{query}"
    async for output in llm.generate(tokens_input(ids.tolist()), params, name):  # type: ignore[attr-defined] # noqa: B007
        pass
    logprobs = np.asarray(output.prompt_logprobs.logprobs[context - len(ids) :])  # type: ignore[union-attr]
    return logprobs, len(ids) - (output.num_cached_tokens or 0)  # type: ignore[union-attr]


async def _timed(call: Awaitable[Scored]) -> tuple[Scored, float]:
    began = time.perf_counter()
    return await call, time.perf_counter() - began


def _row(name: str, runs: Sequence[tuple[int, float, float]], distinct: int, slowest: float) -> Row:
    computed, seconds = int(median(run[0] for run in runs)), median(run[1] for run in runs)
    return Row(name, computed, computed / distinct, seconds, slowest / seconds, max(run[2] for run in runs))


def random_model(folder: Path, *, hidden_size: int, layers: int, vocab_size: int, length: int) -> Path:
    """Write a random Qwen3 in float32; scoring costs what it costs whatever the weights are."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=3 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=hidden_size // 64,
        num_key_value_heads=max(1, hidden_size // 128),
        head_dim=64,
        max_position_embeddings=length,
        tie_word_embeddings=False,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=None,
    )
    Qwen3ForCausalLM(config).float().save_pretrained(folder)
    return folder


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in asdict(Shape()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    parser.add_argument("--model", type=Path, help="a folder; a random model of the size below by default")
    parser.add_argument("--hidden-size", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--vocab-size", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--json", type=Path, help="write the table here too")
    args = parser.parse_args()
    shape = Shape(**{name: getattr(args, name) for name in asdict(Shape())})
    length = shape.prompt_tokens + shape.response_tokens + shape.reference_tokens + 64
    with tempfile.TemporaryDirectory() as folder:
        model = args.model or random_model(
            Path(folder),
            hidden_size=args.hidden_size,
            layers=args.layers,
            vocab_size=args.vocab_size,
            length=length,
        )
        engine = await VllmEngine.load(
            model, dtype=args.dtype, max_model_len=length, enforce_eager=True, max_num_batched_tokens=2048
        )
        try:
            rows = await measure(engine, shape, rounds=args.rounds)
            tree = shape.tree(0, engine.info.vocab_size)
        finally:
            await engine.aclose()
    print(f"{shape}\ndistinct tokens {tree.num_tokens}, naive {tree.naive_tokens}, {engine.info.route}")
    print(f"{'method':<24}{'tokens':>9}{'/distinct':>11}{'seconds':>9}{'faster':>8}{'max diff':>10}")
    for row in rows:
        print(
            f"{row.method:<24}{row.tokens_computed:>9}{row.per_distinct_token:>11.3f}{row.seconds:>9.3f}"
            f"{row.times_faster:>8.1f}{row.largest_difference:>10.1e}"
        )
    if args.json:
        args.json.write_text(json.dumps({"shape": asdict(shape), "rows": [asdict(row) for row in rows]}, indent=1))


if __name__ == "__main__":
    asyncio.run(main())
