"""Part (e): does a real policy learn on open tasks? GRPO on SmolLM2-135M, with its frozen self as scorer.

A small loop of its own: the machine has no TRL. Several runs at once share the card: the default reward at two
learning rates and seeds, the likelihood alone, and the default read off an untrained network. A model of this size
does not think, so its answer is what is read. Rewards come from the service in process. No reward sees the second
reference, which the curves compare answers with; held-out answers are kept for other judges (`texts-CELL.json`).
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from gpu.decoder import Decoder
from gpu.part import Part
from opera_client import RewardClient

ROOT = Path(__file__).parents[2]
TASKS = ROOT / "trainer" / "opera_trainer" / "tasks" / "open"
SYSTEM = "Answer in three short sentences."
"""Or most answers would be cut off."""
NO_THOUGHT = {"think": {"mode": "none"}}


@dataclass(frozen=True)
class Cell:
    """What differs between the runs."""

    reward: str = "opera"
    learning_rate: float = 2e-5
    seed: int = 0
    untrained: bool = False
    """The scorer is a network that was never trained: what is learned from it is no merit of the reward."""


CELLS = {
    "default": Cell(),
    "default-slower": Cell(learning_rate=1e-5, seed=1),
    "likelihood": Cell(reward="logprob"),
    "random-scorer": Cell(untrained=True),
}


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    prompts: int = 32
    generations: int = 8
    held_out: int = 64
    samples: int = 4
    """Of every held-out task."""
    prompt: int = 128
    answer: int = 96
    """Most tokens of a prompt, and of an answer."""
    micro: int = 24
    """Completions a forward with gradients."""
    steps: int = 120
    warmup: int = 5
    temperature: float = 0.8
    """Of sampling and of what is trained: at 1 most samples of a model of this size are noise."""


TINY = Sizes(prompts=2, generations=2, held_out=2, samples=2, prompt=600, answer=4, micro=3, steps=2)


@dataclass
class Completion:
    """What the policy wrote for one task."""

    task: dict[str, Any]
    prompt: list[int]
    ids: list[int]
    text: str
    ended: bool
    """It ended its answer itself."""


def main() -> int:
    part = Part("grpo", tuple(CELLS))
    if not part.cell:
        return run_all(part)
    if "OPERA_GPU_MODEL" not in os.environ:
        raise SystemExit("OPERA_GPU_MODEL must name a model's folder; run.sh sets it")
    model, cell = Path(os.environ["OPERA_GPU_MODEL"]), CELLS[part.cell]
    sizes = TINY if part.dry else Sizes()
    device = "cpu" if part.dry else "cuda"
    with tempfile.TemporaryDirectory() as scratch:
        scorer = untrained(model, Path(scratch)) if cell.untrained else model
        # One route for all sizes: nothing is compiled while the others run.
        options = {
            "engine": "torch",
            "model": str(scorer),
            "device": device,
            "cache_mb": 0,
            "route": "tree_sdpa",
        }
        with RewardClient.in_process(**options) as client:
            run = Run(part, model, client, sizes, cell)
            train, held_out = run.split_tasks()
            run.train(train, held_out)
    part.finish()
    return 0


def run_all(part: Part) -> int:
    """Run every cell in a process of its own, all at once; return how many failed."""
    command = [sys.executable, "-m", "gpu.grpo", *sys.argv[1:], "--cell"]
    running = [subprocess.Popen([*command, cell]) for cell in CELLS]
    failed = sum(process.wait() != 0 for process in running)
    part.finish()
    return failed


def untrained(model: Path, folder: Path) -> Path:
    """Write a twin of a model with random weights, and its tokenizer."""
    torch.manual_seed(0)
    twin = AutoModelForCausalLM.from_config(AutoModelForCausalLM.from_pretrained(model).config)
    twin.to(torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return folder


class Run:
    """A policy in float32, its copy in half precision that samples, and a scorer."""

    def __init__(self, part: Part, model: Path, scorer: RewardClient, sizes: Sizes, cell: Cell) -> None:
        self._part, self._scorer, self._sizes, self._cell = part, scorer, sizes, cell
        torch.manual_seed(cell.seed)
        self._tokenizer = AutoTokenizer.from_pretrained(model)
        half = torch.float32 if part.dry else torch.bfloat16
        self._policy = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).to(part.device)
        self._actor = AutoModelForCausalLM.from_pretrained(model, dtype=half).to(part.device).eval()
        self._end = self._tokenizer.eos_token_id
        rows = max(sizes.prompts * sizes.generations, sizes.held_out * sizes.samples)
        self._decoder = Decoder(self._actor, rows=rows, prompt=sizes.prompt, answer=sizes.answer, end=self._end)
        self._optimizer = torch.optim.AdamW(
            self._policy.parameters(), lr=cell.learning_rate, betas=(0.9, 0.95), weight_decay=0.0
        )

    def split_tasks(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the English tasks whose prompts fit, for training and measuring, split alike in all cells."""
        rows = [json.loads(line) for file in sorted(TASKS.glob("*.jsonl")) for line in file.open(encoding="utf-8")]
        rows = [row for row in rows if row.get("language", "en") == "en"]
        rows = [row for row in rows if len(self._prompt(row)) <= self._sizes.prompt]
        random.Random(0).shuffle(rows)
        return rows[self._sizes.held_out :], rows[: self._sizes.held_out]

    def train(self, tasks: Sequence[dict[str, Any]], held_out: Sequence[dict[str, Any]]) -> None:
        """Measure, train while there is time, measure again."""
        sizes, began = self._sizes, time.perf_counter()
        before = self.measure("before", 0, held_out)
        spent, step = time.perf_counter() - began, 0
        batches = self._batches(tasks)
        while step < sizes.steps and self._part.has(2.5 * spent + 5):
            step += 1
            began = time.perf_counter()
            completions = self.sample([task for task in next(batches) for _ in range(sizes.generations)])
            sampled = time.perf_counter()
            rewards, gains = self.score(completions, sizes.generations)
            scored = time.perf_counter()
            norm = self.update(completions, advantages(rewards, sizes.generations), min(1, step / sizes.warmup))
            ended = time.perf_counter()
            self._part.add(
                "curve",
                step=step,
                reward=mean(rewards),
                gain=mean(gains),
                **described(completions),
                gradient=norm,
                sample_s=sampled - began,
                score_s=scored - sampled,
                train_s=ended - scored,
            )
        after = self.measure("after", step, held_out)
        self._keep(held_out, before, after)

    def _batches(self, tasks: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
        dice, waiting = random.Random(self._cell.seed), []
        while True:
            if len(waiting) < self._sizes.prompts:
                waiting += dice.sample(list(tasks), len(tasks))
            yield [waiting.pop() for _ in range(self._sizes.prompts)]

    def measure(self, when: str, steps: int, tasks: Sequence[dict[str, Any]]) -> list[Completion]:
        """Add a row on held-out tasks; the same random numbers before and after."""
        torch.manual_seed(1)
        completions = self.sample([task for task in tasks for _ in range(self._sizes.samples)])
        rewards, gains = self.score(completions, self._sizes.samples)
        row = {"reward": mean(rewards), "gain": mean(gains), **described(completions)}
        self._part.add("held_out", when=when, steps=steps, **row)
        return completions

    def _keep(
        self, tasks: Sequence[dict[str, Any]], before: Sequence[Completion], after: Sequence[Completion]
    ) -> None:
        """Write the held-out answers, so that other judges can read them."""
        samples = self._sizes.samples
        rows = [
            {
                **{key: task[key] for key in ("id", "prompt", "reference", "second_reference")},
                "before": [each.text for each in before[at * samples : (at + 1) * samples]],
                "after": [each.text for each in after[at * samples : (at + 1) * samples]],
            }
            for at, task in enumerate(tasks)
        ]
        path = self._part.out / f"texts-{self._part.cell}.json"
        path.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    # --- sampling ----------------------------------------------------------------------------------------

    def sample(self, tasks: Sequence[dict[str, Any]]) -> list[Completion]:
        """Return one completion a task."""
        prompts = [self._prompt(task) for task in tasks]
        answers = self._decoder.sample(prompts, self._sizes.temperature)
        texts = self._tokenizer.batch_decode(answers, skip_special_tokens=True)
        return [
            Completion(task, prompt, ids, text, self._end in ids)
            for task, prompt, ids, text in zip(tasks, prompts, answers, texts, strict=True)
        ]

    def _prompt(self, task: dict[str, Any]) -> list[int]:
        text = self._tokenizer.apply_chat_template(_messages(task), tokenize=False, add_generation_prompt=True)
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    # --- rewards -----------------------------------------------------------------------------------------

    def score(self, completions: Sequence[Completion], size: int) -> tuple[list[float | None], list[float | None]]:
        """Return rewards, and how much likelier the reference is after a response than without one, in nats."""
        groups = [
            {
                "prompt": _messages(completions[first].task),
                "reference": completions[first].task["reference"],
                "trajectories": [{"response": each.text} for each in completions[first : first + size]],
            }
            for first in range(0, len(completions), size)
        ]
        rewards: list[float | None] = []
        gains: list[float | None] = []
        for group in self._scorer.reward(groups, reward=self._cell.reward, config=NO_THOUGHT).groups:
            for one in group.trajectories:
                rewards.append(one.reward)
                known = one.mean_logprob is not None and group.initial_mean_logprob is not None
                gains.append(one.mean_logprob - group.initial_mean_logprob if known else None)
        return rewards, gains

    # --- the update --------------------------------------------------------------------------------------

    def update(self, completions: Sequence[Completion], scale: Sequence[float], pace: float) -> float:
        """One step of the policy gradient, a mean over tokens, at `pace` times the rate; returns the norm."""
        count = sum(len(each.ids) for each in completions)
        half = self._part.device.type == "cuda"
        self._policy.train()
        for low in range(0, len(completions), self._sizes.micro):
            some = completions[low : low + self._sizes.micro]
            with torch.autocast(self._part.device.type, dtype=torch.bfloat16, enabled=half):
                logprobs, own = self._logprobs(some)
            weights = torch.tensor(scale[low : low + len(some)], device=logprobs.device)[:, None]
            loss: Tensor = -(weights * logprobs * own).sum() / count
            loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(self._policy.parameters(), 1.0))
        for parameters in self._optimizer.param_groups:
            parameters["lr"] = pace * self._cell.learning_rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for mine, theirs in zip(self._policy.parameters(), self._actor.parameters(), strict=True):
                theirs.copy_(mine)
        return norm

    def _logprobs(self, completions: Sequence[Completion]) -> tuple[Tensor, Tensor]:
        """Return [n, t - 1] log-probabilities of every token after the first, and which of them are trained on."""
        rows = [each.prompt + each.ids for each in completions]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [self._end] * (longest - len(row)) for row in rows], device=self._part.device)
        own = torch.zeros(ids.shape, device=ids.device)
        for row, each in enumerate(completions):
            own[row, len(each.prompt) : len(rows[row])] = 1
        keep = longest - min(len(each.prompt) for each in completions) + 1
        logits = self._policy(input_ids=ids, use_cache=False, logits_to_keep=keep).logits[:, :-1]
        targets = ids[:, -logits.shape[1] :]
        scaled = logits.float() / self._sizes.temperature
        chosen = scaled.gather(2, targets[..., None])[..., 0] - scaled.logsumexp(-1)
        return chosen, own[:, -logits.shape[1] :]


def _messages(task: dict[str, Any]) -> list[dict[str, str]]:
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": task["prompt"]}]


def advantages(rewards: Sequence[float | None], size: int) -> list[float]:
    """Return each reward's distance from its group's mean, in the group's spread; without a reward 0."""
    found = []
    for first in range(0, len(rewards), size):
        group = rewards[first : first + size]
        known = torch.tensor([each for each in group if each is not None], dtype=torch.float64)
        middle = float(known.mean()) if len(known) else 0.0
        spread = float(known.std(correction=0)) if len(known) else 0.0
        found += [0.0 if each is None else (each - middle) / (spread + 1e-4) for each in group]
    return found


def described(completions: Sequence[Completion]) -> dict[str, float]:
    """Return what the curves show besides rewards; `words` is the likeness to the unseen second reference."""
    return {
        "words": fmean(likeness(each.text, each.task["second_reference"]) for each in completions),
        "tokens": fmean(len(each.ids) for each in completions),
        "ended": fmean(each.ended for each in completions),
        "empty": fmean(not each.text.strip() for each in completions),
    }


def likeness(answer: str, reference: str) -> float:
    """Return the F1 of the words that two texts share, each as often as it occurs."""
    mine, theirs = (Counter(re.findall(r"\w+", text.lower())) for text in (answer, reference))
    shared = (mine & theirs).total()
    return 2 * shared / (mine.total() + theirs.total()) if shared else 0.0


def mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


if __name__ == "__main__":
    sys.exit(main())
