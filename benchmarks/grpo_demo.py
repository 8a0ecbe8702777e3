"""Does a preset train? GRPO with stock TRL on the embedded model, its frozen self as scorer.

    python benchmarks/grpo_demo.py --preset hardened --steps 100 --seed 0 --json out.json

Needs `pip install 'opera-reward[server,trl]'`; one CPU core, a few minutes. No reward sees the accuracy: the world
checks answers exactly, on tasks whose calculations occur nowhere in training.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import time
from pathlib import Path
from statistics import fmean
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from opera_adapters.trl import OperaReward
from opera_client import RewardClient
from opera_demo import model_path
from opera_demo.evaluate import measure_answers, respond
from opera_demo.traces import REFLECTIONS
from opera_demo.world import Task, tasks

PROMPTS, GENERATIONS, NEW_TOKENS = 8, 8, 110
WATCHED = tuple(f"watched/{name}" for name in ("exact", "empty", "reflective", "segments", "characters"))


def main() -> None:
    options = parser().parse_args()
    logging.getLogger("opera_adapters").addHandler(logging.StreamHandler())
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    report: dict[str, Any] = {
        "preset": options.preset, "config": options.config, "seed": options.seed, "steps": options.steps,
        "learning_rate": options.lr, "prompts": PROMPTS, "generations": GENERATIONS, "beta": options.beta,
        "tasks": options.count, "torch": torch.__version__,
        "before": held_out(model, tokenizer, options.count),
    }  # fmt: skip
    tell("before", report["before"])
    start, cpu = time.perf_counter(), time.process_time()
    with RewardClient.in_process(engine="torch", model=str(options.model)) as client:
        trainer = trained(model, tokenizer, client, options)
    report["seconds"], report["cpu_seconds"] = time.perf_counter() - start, time.process_time() - cpu
    report["after"] = held_out(model, tokenizer, options.count)
    report["log"] = [entry for entry in trainer.state.log_history if "reward" in entry]
    report["curve"] = curve(report["log"])
    tell("after", report["after"])
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = found.add_argument
    add("--preset", default="hardened", help="of the OPERA reward (default: %(default)s)")
    add("--config", type=json.loads, default={}, help="JSON that overrides fields of the preset")
    add("--steps", type=int, default=100)
    add("--seed", type=int, default=0)
    add("--lr", type=float, default=2e-4)
    add("--beta", type=float, default=0.0, help="weight of the KL term")
    add("--count", type=int, default=256, help="held-out tasks per accuracy (default: %(default)s)")
    add("--model", type=Path, default=model_path(), help="model folder (default: the embedded model)")
    add("--json", type=Path, help="write everything that was measured here")
    return found


def trained(model: Any, tokenizer: Any, client: RewardClient, options: argparse.Namespace) -> GRPOTrainer:
    """Train `model` in place."""
    asked = tasks("train", PROMPTS * options.steps, seed=options.seed)
    rows = [
        {"prompt": [{"role": "user", "content": task.question}], "reference": task.reference} for task in asked
    ]
    opera = OperaReward(client=client, preset=options.preset, config=options.config, timeout_s=120)
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model,
            reward_funcs=[opera, watched],
            args=GRPOConfig(
                output_dir=folder, max_steps=options.steps, logging_steps=1, save_strategy="no", report_to="none",
                per_device_train_batch_size=PROMPTS * GENERATIONS, num_generations=GENERATIONS,
                max_completion_length=NEW_TOKENS, temperature=1.0, beta=options.beta, learning_rate=options.lr,
                seed=options.seed, use_cpu=True, bf16=False, disable_tqdm=True,
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(Dispatcher())
        trainer.train()
    return trainer


def watched(completions: Any, reference: list[str], log_metric: Any, **_: Any) -> list[None]:
    """Log what no reward may see; None leaves the reward as it is."""
    texts = [completion[0]["content"] for completion in completions]
    right = [answer(text) == known for text, known in zip(texts, reference, strict=True)]
    log_metric("watched/exact", fmean(right))
    for name, value in shape(texts).items():
        log_metric(f"watched/{name}", value)
    return [None] * len(texts)


def answer(text: str) -> str:
    return text.rpartition("</think>")[2].removesuffix("<|im_end|>").strip()


def shape(texts: list[str]) -> dict[str, float]:
    """Return shares of empty thoughts and of reflective segments, and means per response."""
    inside = [text.partition("<think>")[2].partition("</think>")[0] for text in texts]
    segments = [[part for part in thought.split("\n\n") if part.strip()] for thought in inside]
    every = [part.strip() for parts in segments for part in parts]
    return {
        "empty": fmean(not parts for parts in segments),
        "reflective": fmean(part.startswith(REFLECTIONS) for part in every) if every else 0.0,
        "segments": len(every) / len(texts),
        "characters": fmean(map(len, texts)),
    }


def held_out(model: Any, tokenizer: Any, count: int) -> dict[str, Any]:
    """Measure greedy and T = 1 answers to test tasks."""
    model.eval()
    asked: list[Task] = tasks("test", count)
    found = {}
    for name, sample in (("sampled", True), ("greedy", False)):
        texts = respond(model, tokenizer, asked, sample=sample)
        found[name] = {"exact": measure_answers(asked, texts).accuracy, **shape(texts)}
    return found


class Dispatcher(TrainerCallback):
    """One line every ten steps."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
        if logs and "reward" in logs and state.global_step % 10 == 0:
            named = ("reward", "opera/relative", "opera/reflection", "opera/consistency", *WATCHED)
            shown = ((name.rpartition("/")[2], logs[name]) for name in named if name in logs)
            print(f"step {state.global_step:4}  " + "  ".join(f"{name} {value:.3f}" for name, value in shown))


def curve(log: list[dict[str, float]], width: int = 10) -> list[dict[str, float]]:
    """Return means over every `width` steps."""
    found = []
    for at in range(0, len(log), width):
        seen: dict[str, list[float]] = {}
        for entry in log[at : at + width]:
            for name, value in entry.items():
                if name.startswith(("opera/", "watched/", "reward", "grad_norm")) and isinstance(value, float):
                    seen.setdefault(name, []).append(value)
        found.append({name: fmean(values) for name, values in seen.items()})
    return found


def tell(when: str, measured: dict[str, dict[str, float]]) -> None:
    for how, numbers in measured.items():
        print(
            f"{when:6} {how:8}" + "  ".join(f"{name} {value:.3f}" for name, value in numbers.items()), flush=True
        )


if __name__ == "__main__":
    main()
