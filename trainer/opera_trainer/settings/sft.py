"""How the policy is fine-tuned on synthesised traces. Knows no stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from opera_trainer.settings.base import Settings

Precision = Literal["float32", "bfloat16"]
Schedule = Literal["linear", "cosine", "constant_with_warmup"]


class LoraSettings(Settings):
    """Low-rank adapters in place of full fine-tuning; they are merged into the exported weights."""

    rank: int = Field(16, ge=1)
    alpha: int = Field(32, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    modules: str | tuple[str, ...] = Field("all-linear", description="Which layers get adapters, as in peft.")


class SftSettings(Settings):
    """SFT. Defaults fit the embedded model; the paper publishes none."""

    epochs: float = Field(3.0, gt=0)
    steps: int | None = Field(None, ge=1, description="Optimizer steps, in place of epochs.")
    learning_rate: float = Field(3e-4, gt=0)
    schedule: Schedule = "linear"
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of the steps.")
    weight_decay: float = Field(0.0, ge=0)
    batch_size: int = Field(16, ge=1, description="Rows an optimizer step, all devices together.")
    micro_batch: int = Field(16, ge=1, description="Rows a device and forward pass.")
    max_length: int = Field(512, ge=8, description="Tokens; longer traces are cut.")
    packing: bool = Field(True, description="Several traces a row, each attending to itself only.")
    precision: Precision = "float32"
    gradient_checkpointing: bool = False
    lora: LoraSettings | None = None
    report_to: tuple[str, ...] = Field((), description="Live curves as in TRL: tensorboard, wandb, trackio.")
    save_every: int = Field(50, ge=1, description="Optimizer steps between checkpoints.")


class ReferencesSettings(SftSettings):
    """Fine-tuning on references, a control. The checkpoint with the least loss on validation tasks is kept."""

    packing: bool = False
