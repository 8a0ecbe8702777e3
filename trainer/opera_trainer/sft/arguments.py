"""Settings of SFT as TRL's SFTConfig takes them."""

from __future__ import annotations

from pathlib import Path

from trl import SFTConfig

from opera_trainer import training
from opera_trainer.config import RunConfig
from opera_trainer.settings.sft import SftSettings


def arguments(config: RunConfig, settings: SftSettings, folder: Path) -> SFTConfig:
    """Return TRL's arguments; checkpoints go to `folder`."""
    return SFTConfig(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
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
        save_total_limit=1,
        logging_steps=1,
        report_to=list(settings.report_to) or "none",
        disable_tqdm=True,
        seed=config.seed,
        **training.device_arguments(settings.precision),
    )
