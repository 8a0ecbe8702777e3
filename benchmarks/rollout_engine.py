"""What rewards cost on the vLLM that sampled: beside a separate service, and beside plain `prompt_logprobs`.

Responses are sampled first, so their keys and values are in vLLM's cache, as in a trainer. Then the reference is
priced at every boundary in three ways, on the same weights in float32: by the plug-in, by vLLM's own
`prompt_logprobs`, and by a separate process with the torch engine. Times are wall seconds, memory is what a way
adds to the peak. `--shape` is responses, boundaries each, response tokens, reference tokens.

    .venv-vllm/bin/python benchmarks/rollout_engine.py [--model PATH] [--shape 4 16 768 33]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

import opera_demo
from opera_service.engines.base import Engine
from opera_service.scoring.tree import ROOT, TokenTree, TreeBuilder

SHAPE = (4, 16, 768, 33)
PROMPT = 100
BLOCK = 32
PLUGIN, PLAIN, SEPARATE = "the engine that sampled", "its plain prompt_logprobs", "a separate service"


@dataclass(frozen=True)
class Way:
    """What one way of scoring took."""

    name: str
    tokens: int
    seconds: float
    megabytes: float
    """Added to the peak of the process, or the whole process where it is one of its own."""
    logprobs: list[float]

    def line(self, truth: Way) -> str:
        """Return a line of the table; `truth` is what its numbers are compared with."""
        worst = np.abs(np.subtract(self.logprobs, truth.logprobs)).max()
        return f"{self.name:26} {self.tokens:9,} {self.seconds:8.2f} s {self.megabytes:9.0f} MB {worst:11.1e}"


def trees_of(responses: list[tuple[list[int], list[int]]], reference: list[int], boundaries: int) -> TokenTree:
    """Return one group: the reference scored before every response and at each of its boundaries."""
    builder = TreeBuilder()
    for prompt, response in responses:
        start = builder.extend(ROOT, prompt)
        builder.score(start, reference)
        for cut in np.linspace(0, len(response), boundaries + 1).astype(int)[1:]:
            builder.score(builder.extend(start, response[:cut]), reference)
    return builder.build()


def peak_mb() -> float:
    """Return the largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def timed(name: str, engine: Engine, tree: TokenTree, before_mb: float) -> Way:
    """Score a tree once."""
    began = time.perf_counter()
    (scores,) = await engine.score([tree])
    seconds = time.perf_counter() - began
    return Way(name, scores.tokens_computed, seconds, peak_mb() - before_mb, scores.logprobs.tolist())


def sampled(model: str, shape: tuple[int, ...]) -> tuple[Any, list[tuple[list[int], list[int]]], list[int]]:
    """Start vLLM as a trainer does, and sample; return it, prompts with responses, and a reference."""
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "ERROR", "HF_HUB_OFFLINE": "1"}
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    import vllm

    count, _, length, reference = shape
    longest = PROMPT + length + reference + 1
    llm = vllm.LLM(model, dtype="float32", max_model_len=longest, block_size=BLOCK, enforce_eager=True)
    vocabulary = llm.llm_engine.model_config.get_vocab_size()
    prompt, target = (
        np.random.default_rng(seed).integers(3, vocabulary, size) for seed, size in enumerate((PROMPT, reference))
    )
    params = vllm.SamplingParams(n=count, max_tokens=length, ignore_eos=True, temperature=1.0, detokenize=False)
    (output,) = llm.generate({"prompt_token_ids": prompt.tolist()}, params, use_tqdm=False)
    return llm, [(prompt.tolist(), list(one.token_ids)) for one in output.outputs], target.tolist()


async def on_vllm(llm: Any, tree: TokenTree, name: str) -> Way:
    """Score on the vLLM that sampled; PLAIN asks it as if there were no plug-in."""
    import torch

    from opera_adapters.rollout_engines.trl import ColocatedVllm
    from opera_service.engines.vllm import in_process

    generation = SimpleNamespace(mode="colocate", enable_sleep_mode=False, tensor_parallel_size=1, llm=llm)
    accelerator = SimpleNamespace(device=torch.device("cpu"))
    vllm = ColocatedVllm(SimpleNamespace(vllm_generation=generation, accelerator=accelerator, _last_loaded_step=0))
    if name == PLAIN:
        score = vllm.score
        vllm.score = lambda ids, _: score(ids, None)  # type: ignore[method-assign]
    engine = await in_process.connect(vllm, vocab_size=llm.llm_engine.model_config.get_vocab_size())
    expected = "recomputed" if name == PLAIN else "prefix-cache"
    assert engine.info.route == expected, engine.info.route_reason
    return await timed(name, engine, tree, peak_mb())


def separate(model: str, work: Path) -> Way:
    """Score in a process of its own, which is what `work` names: ids on disk."""
    answer = subprocess.run(
        [sys.executable, __file__, "--model", model, "--separate", str(work)],
        capture_output=True,
        text=True,
        check=True,
    )
    return Way(**json.loads(answer.stdout.splitlines()[-1]))


def be_separate(model: str, work: Path) -> None:
    """Be that process: print its way."""
    from opera_service.engines.torch.engine import TorchEngine

    engine = TorchEngine.load(model, dtype="float32")
    (responses, reference, boundaries) = json.loads(work.read_text())
    way = asyncio.run(timed(SEPARATE, engine, trees_of(responses, reference, boundaries), 0.0))
    print(json.dumps(asdict(way)))


def main() -> None:
    """Print the table, and its numbers as JSON with `--json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(Path(opera_demo.__file__).parent / "model"))
    parser.add_argument("--shape", type=int, nargs=4, default=SHAPE)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--separate", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.separate:
        be_separate(options.model, options.separate)
        return
    llm, responses, reference = sampled(options.model, tuple(options.shape))
    tree = trees_of(responses, reference, options.shape[1])
    # The cheapest first: a peak only rises.
    ways = [asyncio.run(on_vllm(llm, tree, name)) for name in (PLUGIN, PLAIN)]
    work = Path(os.environ.get("TMPDIR", "/tmp")) / f"opera-rollout-{os.getpid()}.json"
    work.write_text(json.dumps((responses, reference, options.shape[1])))
    try:
        ways.append(separate(options.model, work))
    finally:
        work.unlink()
    count, boundaries, length, reference_length = options.shape
    print(
        f"{count} responses of {length} tokens, {boundaries} boundaries each, a reference of {reference_length}: "
        f"{tree.num_tokens:,} distinct tokens, {tree.naive_tokens:,} context by context\n"
        f"{'scored on':26} {'tokens':>9} {'time':>10} {'memory':>12} {'difference':>11}"
    )
    for way in ways:
        print(way.line(ways[-1]))
    if options.json:
        numbers = [{name: value for name, value in asdict(way).items() if name != "logprobs"} for way in ways]
        options.json.write_text(json.dumps(numbers, indent=2))


if __name__ == "__main__":
    main()
