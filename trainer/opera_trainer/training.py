"""What SFT and GRPO share around transformers' Trainer: devices, batches, checkpoints, logs, progress.

Knows no reward and no data.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from opera_client.errors import BadInput
from opera_trainer.artefacts import LogEntry, write_rows
from opera_trainer.lora import merged
from opera_trainer.models import Tokenizer, save
from opera_trainer.ranks import world_size
from opera_trainer.settings.sft import Precision

PATIENCE_S = 10.0
"""Seconds between two lines of progress."""


def accumulation(rows: int, micro_batch: int, *, what: str) -> int:
    """Return the forward passes of a device that make `rows` rows of all devices.

    Raises:
        BadInput: they cannot; the message names `what` and the numbers.
    """
    together = micro_batch * world_size()
    if rows % together:
        raise BadInput(
            f"{what}: {rows} rows cannot be made of micro_batch={micro_batch} on {world_size()} device(s);"
            f" choose a micro_batch so that {together} divides {rows}"
        )
    return rows // together


def device_arguments(precision: Precision) -> dict[str, Any]:
    """Return the Trainer arguments that say where and how precisely to compute; master weights are float32."""
    cuda = torch.cuda.is_available()
    return {
        "use_cpu": not cuda,
        "bf16": precision == "bfloat16",
        "fp16": False,
        "tf32": None if not cuda else True,
    }


def last_checkpoint(folder: Path) -> str | None:
    """Return the newest complete checkpoint: its `trainer_state.json`, which is written last, can be read."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    for path in found:
        try:
            json.loads((path / "trainer_state.json").read_bytes())
        except (OSError, ValueError):
            continue
        return str(path)
    return None


def log_entries(history: Sequence[dict[str, Any]]) -> list[LogEntry]:
    """Return a Trainer's log history as entries, finite numbers only."""
    entries = []
    for entry in history:
        numbers = {key: float(value) for key, value in entry.items() if isinstance(value, int | float)}
        step = int(numbers.pop("step"))
        validation = any(key.startswith("eval_") for key in numbers)
        metrics = {
            key.removeprefix("eval_"): value
            for key, value in numbers.items()
            if value == value and abs(value) != float("inf")
        }
        entries.append(LogEntry(step=step, split="validation" if validation else "train", metrics=metrics))
    return entries


def write_log(history: Sequence[dict[str, Any]], path: Path) -> None:
    """Write a Trainer's log history, numbers only, validation apart from training."""
    write_rows(path, log_entries(history))


def finish(trainer: Any, tokenizer: Tokenizer, origin: str | Path, folder: Path) -> None:
    """Write `model/`, adapters merged, and `log.jsonl`. A collective under FSDP."""
    if getattr(trainer, "is_fsdp_enabled", False):
        trainer.save_model(str(folder / "model"))
    elif trainer.is_world_process_zero():
        save(merged(trainer.accelerator.unwrap_model(trainer.model)), tokenizer, origin, folder / "model")
    if trainer.is_world_process_zero():
        write_log(trainer.state.log_history, folder / "log.jsonl")


def quiet(trainer: Any, say: Callable[[str], None], shown: Sequence[str]) -> None:
    """Replace the Trainer's own printing by one line of progress every few steps, with the metrics in `shown`."""
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(Lines(say, shown))


class Lines(TrainerCallback):
    """Says where training is, at most every `PATIENCE_S` seconds, and what validation found."""

    def __init__(
        self, say: Callable[[str], None], shown: Sequence[str], clock: Callable[[], float] = time.monotonic
    ):
        self._say, self._shown, self._clock = say, shown, clock
        self._last = float("-inf")
        self._begun: tuple[float, int] | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Remember where this process begins."""
        self._begun = (self._clock(), state.global_step)
        if state.global_step:
            self._say(f"  goes on after step {state.global_step}")

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
        """Say one line."""
        if not logs or not state.is_world_process_zero or self._begun is None:
            return
        validation = any(key.startswith("eval_") for key in logs)
        now = self._clock()
        if not validation and now - self._last < PATIENCE_S and state.global_step < state.max_steps:
            return
        prefix = "eval_" if validation else ""
        seen = [f"{name.rpartition('/')[2]} {logs[prefix + name]:.3f}" for name in self._shown
                if isinstance(logs.get(prefix + name), float)]  # fmt: skip
        if not seen:
            return
        begin, first = self._begun
        left = (now - begin) / max(1, state.global_step - first) * (state.max_steps - state.global_step)
        self._last = now
        what = "validation" if validation else f"{left:4.0f} s left"
        self._say(f"  step {state.global_step:4}/{state.max_steps}  {what}  " + "  ".join(seen))
