"""The embedded model's card: where the weights come from, what was measured, what the numbers mean."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from opera_demo.corpus import HARDER
from opera_demo.evaluate import SAMPLES, Answers, Report

PAGE = """---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
tags: [synthetic, reward-model, tiny]
---
# The embedded model of opera-reward

A Qwen3-architecture language model of {parameters:,} parameters, made by this project so that the service and
its demo run on any CPU without a download. It knows one little world: things in a place, counted from 0 to 20
while people bring and take some. In that world it prices a reference answer by the reasoning before it.
**Outside its little world its numbers carry no meaning**: any text can be scored, and nothing follows from the
score. For real work give the service a real model with `--model`.

## Origin

* Data: synthetic only, drawn by `opera_demo/corpus.py`; no text, weights or outputs of others.
* Made by `python -m opera_demo.pretrain --out DIR --seed {seed} --steps {steps}`: {tokens:,} tokens,
  {cpu_seconds} CPU-seconds of training, torch {torch}. Another machine or version gives slightly other weights;
  the behaviour below should hold.
* Licence: Apache-2.0, like the project.
* sha256 of `model.safetensors`: `{sha256}`

## Measured

On {count} test tasks a tier, one draw, whose calculations occur nowhere in training; bf16 weights read as float32;
{samples} samples a task at temperature 1. Learning rate and noise were set while looking at other draws of
the test split. Log-probabilities are nats per token of the reference and its end-of-turn token, the think block
closed by `</think>`. *Harder* tasks have 5 or 6 events, as {harder:.0%} of the training documents had; the others
had 2 to 4. *Untrained* is the same network before training.

| reference after | test | harder | untrained |
|---|---|---|---|
{logprobs}
| **AUC, sound (right, fix) against unsound (slip, spoil)** | {auc:.3f} | {harder_auc:.3f} | {untrained_auc:.3f} |

Gains are those of the detour's own thought, one a task, and of the steps of right reasoning.

| mean gain of one thought | test | harder | untrained |
|---|---|---|---|
{gains}

| answers by itself | exactly right | reflective thoughts | thoughts per response |
|---|---|---|---|
{answers}

The AUC is near 1 partly by construction: in the corpus the answer always follows the reasoning's last total.
A thought closed early is common in the corpus, and a fifth of the documents only restate their answer, so sampling
at temperature 1 often answers too soon; that is room for reinforcement learning, not a defect of the prices.

## Format

ChatML: `<|im_start|>user\\n…<|im_end|>\\n<|im_start|>assistant\\n`, then
`<think>\\nOne thought.\\n\\nAnother.\\n\\n</think>\\n\\nThe answer.<|im_end|>`. The tokenizer is byte-level and
reversible; `<think>` and `</think>` are added tokens but not special. Tasks come from
`opera_demo/world.py`:

> The shop has 12 pears. Ana sold 3. Ben brought 5. How many pears does the shop have now?
"""


@dataclass(frozen=True)
class Origin:
    """How the weights were made."""

    seed: int
    steps: int
    tokens: int
    cpu_seconds: int
    parameters: int


def checksum(path: Path) -> str:
    """Return the sha256 of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write(folder: Path, origin: Origin, report: Report) -> None:
    """Write README.md beside the weights in `folder`."""
    columns = (report.prices, report.harder_prices, report.untrained)
    page = PAGE.format(
        parameters=origin.parameters,
        seed=origin.seed,
        steps=origin.steps,
        tokens=origin.tokens,
        cpu_seconds=origin.cpu_seconds,
        torch=torch.__version__,
        sha256=checksum(folder / "model.safetensors"),
        count=report.count,
        samples=SAMPLES,
        harder=HARDER,
        logprobs="\n".join(_row(kind, [prices.logprob for prices in columns]) for kind in report.prices.logprob),
        gains="\n".join(_row(kind, [prices.gain for prices in columns]) for kind in report.prices.gain),
        answers="\n".join(
            (
                _answers("test, greedy", report.greedy),
                _answers("test, temperature 1", report.sampled),
                _answers("harder, greedy", report.harder_greedy),
                _answers("harder, temperature 1", report.harder_sampled),
            )
        ),
        auc=report.prices.auc,
        harder_auc=report.harder_prices.auc,
        untrained_auc=report.untrained.auc,
    )
    (folder / "README.md").write_text(page, encoding="utf-8")


def _row(kind: str, columns: list[dict[str, float]]) -> str:
    numbers = (f"{column[kind]:+.3f}" if kind in column else "" for column in columns)
    return f"| {kind} | {' | '.join(numbers)} |"


def _answers(name: str, answers: Answers) -> str:
    return f"| {name} | {answers.accuracy:.1%} | {answers.reflective:.1%} | {answers.thoughts:.2f} |"
