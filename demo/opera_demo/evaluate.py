"""What the embedded model can do, measured with plain transformers on tasks it never saw.

Prices the reference after sound and unsound reasoning, thought by thought, and checks sampled answers. Uses no
part of the service, so that it can vouch for the model independently.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from opera_demo.corpus import END, prompt
from opera_demo.traces import REFLECTIONS, Detour, Thought, trace
from opera_demo.world import Task, Tier, tasks

OPENING = "<think>\n"
BRIDGE = "</think>\n\n"
SOUND: tuple[Detour | None, ...] = (None, "fix")
UNSOUND: tuple[Detour | None, ...] = ("slip", "spoil")
IDLE: tuple[Detour | None, ...] = ("confirm", "filler")
MAX_NEW_TOKENS = 160
SAMPLES = 4
"""Responses a task at temperature 1: with one, the share of right ones moves by several points."""
DRAW = 2026
"""Seed of the tasks that the card is measured on, whatever the training seed."""

Model = Any
"""A transformers causal LM."""
Encode = Callable[[str], list[int]]


@dataclass(frozen=True)
class Prices:
    """Means over held-out tasks, in nats per token of the reference and its end-of-turn token."""

    auc: float
    """How often sound reasoning (right or mended) prices the reference above unsound (slipped or spoiled)."""
    logprob: dict[str, float]
    """After the whole reasoning, by its detour; `none` has no reasoning, `right` no detour."""
    gain: dict[str, float]
    """What one thought adds, by kind: the detour's own thought, and the steps of right reasoning."""


@dataclass(frozen=True)
class Answers:
    """How the model answers by itself."""

    accuracy: float
    """Share of exactly right answers."""
    reflective: float
    """Share of thoughts that start with a reflection word."""
    thoughts: float
    """Mean thoughts per response."""


def encoder(tokenizer: Any) -> Encode:
    """Return a function from text to ids that adds nothing."""
    return lambda text: list(tokenizer(text, add_special_tokens=False)["input_ids"])


@torch.inference_mode()
def price(
    model: Model, pairs: Sequence[tuple[list[int], list[int]]], batch: int = 64
) -> list[NDArray[np.float64]]:
    """Return log p(target | context), one value a target token, for each (context, target) pair of ids."""
    found: list[NDArray[np.float64]] = [np.empty(0)] * len(pairs)
    order = sorted(range(len(pairs)), key=lambda index: sum(map(len, pairs[index])))
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        width = max(sum(map(len, pairs[index])) for index in chosen)
        ids = torch.zeros(len(chosen), width, dtype=torch.long)
        for row, index in enumerate(chosen):  # right padding, which causal attention never looks at
            whole = [*pairs[index][0], *pairs[index][1]]
            ids[row, : len(whole)] = torch.tensor(whole)
        logprobs = model(input_ids=ids).logits.float().log_softmax(-1)
        for row, index in enumerate(chosen):
            context, target = pairs[index]
            places = torch.arange(len(context) - 1, len(context) + len(target) - 1)
            found[index] = logprobs[row, places, torch.tensor(target)].double().numpy()
    return found


def boundaries(task: Task, thoughts: Iterable[Thought], encode: Encode) -> list[list[int]]:
    """Return the closed contexts before the first thought and after each one."""
    context, bridge = encode(prompt(task.question) + OPENING), encode(BRIDGE)
    found = [context + bridge]
    for thought in thoughts:
        context = context + encode(f"{thought.text}\n\n")
        found.append(context + bridge)
    return found


def auc(good: Sequence[float], bad: Sequence[float]) -> float:
    """Return the chance that a random `good` value exceeds a random `bad` one, ties counting half."""
    difference = np.subtract.outer(np.asarray(good), np.asarray(bad))
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


def measure_prices(model: Model, encode: Encode, held_out: Sequence[Task], seed: int = 0) -> Prices:
    """Price the references of `held_out` after reasoning of every sort."""
    rng = random.Random(f"prices/{seed}")
    written = [
        (task, detour, trace(task, rng, detour)) for detour in (*SOUND, *UNSOUND, *IDLE) for task in held_out
    ]
    asked = [(task, context) for task, _, thoughts in written for context in boundaries(task, thoughts, encode)]
    pairs = [(context, encode(task.reference + END)) for task, context in asked]
    means = (float(values.mean()) for values in price(model, pairs))

    finals: dict[str, list[float]] = defaultdict(list)
    gains: dict[str, list[float]] = defaultdict(list)
    for _, detour, thoughts in written:
        value = next(means)
        if detour is None:
            finals["none"].append(value)
        for thought in thoughts:
            before, value = value, next(means)
            # one kind a detour: every task weighs the same, however rare the kind is in the corpus
            if thought.kind == (detour or "step"):
                gains[thought.kind].append(value - before)
        finals[detour or "right"].append(value)
    return Prices(
        auc=auc(
            [value for detour in SOUND for value in finals[detour or "right"]],
            [value for detour in UNSOUND for value in finals[detour or "right"]],
        ),
        logprob={kind: fmean(values) for kind, values in finals.items()},
        gain={kind: fmean(values) for kind, values in gains.items()},
    )


@torch.inference_mode()
def respond(
    model: Model, tokenizer: Any, asked: Sequence[Task], *, sample: bool, seed: int = 0, batch: int = 64
) -> list[str]:
    """Return one response a task: greedy, or sampled at temperature 1."""
    torch.manual_seed(seed)
    texts: list[str] = []
    for start in range(0, len(asked), batch):
        prompts = [prompt(task.question) for task in asked[start : start + batch]]
        inputs = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")
        chosen = {"do_sample": True, "temperature": 1.0, "top_k": 0} if sample else {"do_sample": False}
        ids = model.generate(
            **inputs, **chosen, max_new_tokens=MAX_NEW_TOKENS, pad_token_id=tokenizer.pad_token_id
        )
        fresh = ids[:, inputs["input_ids"].shape[1] :]
        texts += tokenizer.batch_decode(fresh, skip_special_tokens=True)
    return texts


def measure_answers(asked: Sequence[Task], responses: Sequence[str]) -> Answers:
    """Check responses against the tasks they answer."""
    thoughts = [
        thought
        for text in responses
        for thought in text.partition(OPENING)[2].partition("</think>")[0].split("\n")
        if thought
    ]
    return Answers(
        accuracy=fmean(task.is_right(text) for task, text in zip(asked, responses, strict=True)),
        reflective=fmean(thought.startswith(REFLECTIONS) for thought in thoughts) if thoughts else 0.0,
        thoughts=len(thoughts) / len(responses),
    )


@dataclass(frozen=True)
class Report:
    """Everything the model card states about behaviour."""

    count: int
    """Held-out tasks per number."""
    prices: Prices
    untrained: Prices
    """The same for a randomly initialised twin."""
    greedy: Answers
    sampled: Answers
    harder_prices: Prices
    harder_greedy: Answers
    harder_sampled: Answers


def evaluate(model: Model, twin: Model, tokenizer: Any, *, count: int = 256, seed: int = DRAW) -> Report:
    """Measure `model`, and the prices of its untrained `twin`, on `count` test tasks of each tier."""
    encode = encoder(tokenizer)

    def answers(tier: Tier, sample: bool) -> Answers:
        asked = tasks("test", count, seed=seed, tier=tier) * (SAMPLES if sample else 1)
        return measure_answers(asked, respond(model, tokenizer, asked, sample=sample, seed=seed))

    standard, harder = (tasks("test", count, seed=seed, tier=tier) for tier in ("standard", "harder"))
    return Report(
        count=count,
        prices=measure_prices(model, encode, standard, seed),
        untrained=measure_prices(twin, encode, standard, seed),
        greedy=answers("standard", False),
        sampled=answers("standard", True),
        harder_prices=measure_prices(model, encode, harder, seed),
        harder_greedy=answers("harder", False),
        harder_sampled=answers("harder", True),
    )
