"""Part (e): does a real policy learn on open tasks? GRPO on SmolLM2-135M with its frozen self as scorer.

A small loop of its own: the machine has no TRL. A completion is a thought of a few tokens, closed for the policy
where it does not close it itself, and an answer; forced tokens are not trained on. Rewards are the default, by the
service in process. No reward sees the second reference, which the curves compare answers with.
"""

from __future__ import annotations

import copy
import json
import os
import random
import re
import sys
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

from gpu.part import Part
from opera_client import RewardClient

ROOT = Path(__file__).parents[2]
TASKS = ROOT / "trainer" / "opera_trainer" / "tasks" / "open"
OPEN, CLOSE = "<think>\n", "\n</think>\n\n"


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    prompts: int = 12
    generations: int = 8
    thought: int = 80
    answer: int = 112
    held_out: int = 32
    micro: int = 48
    """Completions a forward with gradients."""
    learning_rate: float = 1e-5
    steps: int = 60


TINY = Sizes(prompts=2, generations=2, thought=4, answer=4, held_out=2, micro=3, steps=2)


@dataclass
class Completion:
    """What the policy wrote for one task."""

    task: dict[str, Any]
    prompt: list[int]
    ids: list[int]
    own: list[bool]
    """Whether the policy chose the token."""
    text: str
    ended: bool
    """It ended its answer itself."""

    @property
    def answer(self) -> str:
        return self.text.rpartition("</think>")[2]


def main() -> int:
    part = Part("grpo")
    model = Path(os.environ.get("OPERA_GPU_MODEL", "")) if "OPERA_GPU_MODEL" in os.environ else None
    if model is None:
        raise SystemExit("OPERA_GPU_MODEL must name a model's folder; run.sh sets it")
    sizes = TINY if part.dry else Sizes()
    train, held_out = split_tasks(sizes.held_out)
    device = "cpu" if part.dry else "cuda"
    with RewardClient.in_process(engine="torch", model=str(model), device=device, cache_mb=0) as scorer:
        Run(part, model, scorer, sizes).train(train, held_out)
    part.finish()
    return 0


def split_tasks(held_out: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the English tasks to train on, shuffled, and those to measure on."""
    rows = [json.loads(line) for file in sorted(TASKS.glob("*.jsonl")) for line in file.open(encoding="utf-8")]
    rows = [row for row in rows if row.get("language", "en") == "en"]
    random.Random(0).shuffle(rows)
    return rows[held_out:], rows[:held_out]


class Run:
    """A policy in float32, its copy in half precision that samples, and a scorer."""

    def __init__(self, part: Part, model: Path, scorer: RewardClient, sizes: Sizes) -> None:
        self._part, self._scorer, self._sizes = part, scorer, sizes
        torch.manual_seed(0)
        self._tokenizer = AutoTokenizer.from_pretrained(model)
        self._policy = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).to(part.device)
        self._actor = copy.deepcopy(self._policy)
        if not part.dry:
            self._actor = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16).to(part.device)
        self._actor.eval()
        self._close = self._tokenizer(CLOSE, add_special_tokens=False)["input_ids"]
        self._end = self._tokenizer.eos_token_id
        self._optimizer = torch.optim.AdamW(
            self._policy.parameters(), lr=sizes.learning_rate, betas=(0.9, 0.95), weight_decay=0.0
        )

    def train(self, tasks: Sequence[dict[str, Any]], held_out: Sequence[dict[str, Any]]) -> None:
        """Measure, train while there is time, measure again."""
        sizes, began = self._sizes, time.perf_counter()
        self.measure("before", held_out)
        spent = time.perf_counter() - began
        batches = self._batches(tasks)
        for step in range(1, sizes.steps + 1):
            if not self._part.has(2.5 * spent + 5):
                break
            began = time.perf_counter()
            completions = self.sample([task for task in next(batches) for _ in range(sizes.generations)])
            sampled = time.perf_counter()
            rewards, gains = self.score(completions)
            scored = time.perf_counter()
            norm = self.update(completions, advantages(rewards, sizes.generations))
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
        self.measure("after", held_out)

    def _batches(self, tasks: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
        dice, waiting = random.Random(1), []
        while True:
            if len(waiting) < self._sizes.prompts:
                waiting += dice.sample(list(tasks), len(tasks))
            yield [waiting.pop() for _ in range(self._sizes.prompts)]

    def measure(self, when: str, tasks: Sequence[dict[str, Any]]) -> None:
        """Add a row on held-out tasks; the same random numbers before and after."""
        torch.manual_seed(1)
        completions = self.sample([task for task in tasks for _ in range(2)])
        rewards, gains = self.score(completions, size=2)
        self._part.add("held_out", when=when, reward=mean(rewards), gain=mean(gains), **described(completions))

    # --- sampling ----------------------------------------------------------------------------------------

    def sample(self, tasks: Sequence[dict[str, Any]]) -> list[Completion]:
        """Return one completion a task: thought, closing tag, answer."""
        prompts = [self._prompt(task) for task in tasks]
        thoughts = self._continued(prompts, self._sizes.thought)
        completions = []
        for task, prompt, thought in zip(tasks, prompts, thoughts, strict=True):
            text = self._tokenizer.decode(thought, skip_special_tokens=True)
            thought = [token for token in thought if token != self._end]
            closed = "</think>" in text
            forced = [] if closed else self._close
            own = [True] * len(thought) + [False] * len(forced)
            completions.append(Completion(task, prompt, thought + forced, own, "", False))
        answers = self._continued([each.prompt + each.ids for each in completions], self._sizes.answer)
        for completion, ids in zip(completions, answers, strict=True):
            completion.ended = self._end in ids
            completion.ids = completion.ids + ids
            completion.own = completion.own + [True] * len(ids)
            completion.text = self._tokenizer.decode(completion.ids, skip_special_tokens=True)
        return completions

    def _prompt(self, task: dict[str, Any]) -> list[int]:
        message = [{"role": "user", "content": task["prompt"]}]
        text = self._tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        ids: list[int] = self._tokenizer(text + OPEN, add_special_tokens=False)["input_ids"]
        return ids

    @torch.no_grad()
    def _continued(self, prompts: Sequence[list[int]], tokens: int) -> list[list[int]]:
        """Sample at temperature 1; the end token is kept, what comes after it is not."""
        longest = max(map(len, prompts))
        ids = torch.full((len(prompts), longest), self._end)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask[row, longest - len(prompt) :] = 1
        found = self._actor.generate(
            input_ids=ids.to(self._part.device),
            attention_mask=mask.to(self._part.device),
            max_new_tokens=tokens,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            eos_token_id=self._end,
            pad_token_id=self._end,
        )[:, longest:].tolist()
        return [row[: row.index(self._end) + 1] if self._end in row else row for row in found]

    # --- rewards -----------------------------------------------------------------------------------------

    def score(
        self, completions: Sequence[Completion], size: int | None = None
    ) -> tuple[list[float | None], list[float | None]]:
        """Return rewards, and how much likelier the reference is after a response than without one, in nats."""
        size = size or self._sizes.generations
        groups = [
            {
                "prompt": self._tokenizer.decode(completions[first].prompt),
                "reference": completions[first].task["reference"],
                "trajectories": [{"response": each.text} for each in completions[first : first + size]],
            }
            for first in range(0, len(completions), size)
        ]
        rewards: list[float | None] = []
        gains: list[float | None] = []
        for group in self._scorer.reward(groups).groups:
            for one in group.trajectories:
                rewards.append(one.reward)
                known = one.mean_logprob is not None and group.initial_mean_logprob is not None
                gains.append(one.mean_logprob - group.initial_mean_logprob if known else None)
        return rewards, gains

    # --- the update --------------------------------------------------------------------------------------

    def update(self, completions: Sequence[Completion], scale: Sequence[float]) -> float:
        """One step of the policy gradient, a mean over the policy's own tokens; returns the gradient's norm."""
        count = sum(sum(each.own) for each in completions)
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
            first = len(each.prompt)
            own[row, first : first + len(each.own)] = torch.tensor(each.own, device=ids.device).float()
        keep = longest - min(len(each.prompt) for each in completions) + 1
        logits = self._policy(input_ids=ids, use_cache=False, logits_to_keep=keep).logits[:, :-1]
        targets = ids[:, -logits.shape[1] :]
        chosen = logits.float().log_softmax(-1).gather(2, targets[..., None])[..., 0]
        return chosen, own[:, -logits.shape[1] :]


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
        "words": fmean(likeness(each.answer, each.task["second_reference"]) for each in completions),
        "tokens": fmean(len(each.ids) for each in completions),
        "ended": fmean(each.ended for each in completions),
        "closed": fmean(all(each.own) for each in completions),
        "empty": fmean(not each.answer.strip() for each in completions),
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
