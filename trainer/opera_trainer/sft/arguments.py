"""Settings of SFT as TRL's SFTConfig takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trl import SFTConfig

from opera_trainer import training
from opera_trainer.config import RunConfig
from opera_trainer.settings.sft import SftSettings


def arguments(config: RunConfig, settings: SftSettings, folder: Path, *, validates: bool = False) -> SFTConfig:
    """Return TRL's arguments; checkpoints go to `folder`. With `validates` the one of the least loss is kept."""
    chosen: dict[str, Any] = {}
    if validates:
        chosen = {
            "eval_strategy": "steps", "eval_steps": settings.save_every, "load_best_model_at_end": True,
            "metric_for_best_model": "eval_loss", "greater_is_better": False,
            "per_device_eval_batch_size": settings.micro_batch,
        }  # fmt: skip
    return SFTConfig(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        max_steps=settings.steps or -1,
        per_device_train_batch_size=settings.micro_batch,
        gradient_accumulation_steps=training.accumulation(
            settings.batch_size, settings.micro_batch, what="sft.batch_size"
        ),
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        max_length=settings.max_length,
        packing=settings.packing,
        packing_strategy="bfd",
        completion_only_loss=True,
        gradient_checkpointing=settings.gradient_checkpointing,
        save_strategy="steps",
        save_steps=settings.save_every,
        save_total_limit=2 if validates else 1,
        logging_steps=1,
        report_to=list(settings.report_to) or "none",
        disable_tqdm=True,
        seed=config.seed,
        **chosen,
        **training.device_arguments(settings.precision),
    )
