"""Settings of GRPO as TRL's GRPOConfig takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trl import GRPOConfig

from opera_trainer import training
from opera_trainer.config import RunConfig
from opera_trainer.settings.grpo import GrpoSettings

SELECTION = "eval_selection"
"""Name under which the sum of `select_by` is logged."""


def arguments(config: RunConfig, settings: GrpoSettings, folder: Path, *, validates: bool) -> GRPOConfig:
    """Return TRL's arguments; checkpoints go to `folder`.

    A rollout batch of `prompts` × `generations` completions is made in one go and used up by
    `prompts / prompts_per_update` optimizer steps.
    """
    accumulated = training.accumulation(
        settings.prompts_per_update * settings.generations, settings.micro_batch, what="grpo.prompts_per_update"
    )
    chosen: dict[str, Any] = {}
    if validates:
        chosen = {
            "eval_strategy": "steps", "eval_steps": settings.validate_every, "load_best_model_at_end": True,
            "metric_for_best_model": SELECTION, "greater_is_better": True,
            "per_device_eval_batch_size": _validation_rows(settings),
            "num_generations_eval": settings.validation_generations,
        }  # fmt: skip
    return GRPOConfig(
        output_dir=str(folder),
        max_steps=settings.updates,
        per_device_train_batch_size=settings.micro_batch,
        gradient_accumulation_steps=accumulated,
        steps_per_generation=accumulated * settings.prompts // settings.prompts_per_update,
        num_generations=settings.generations,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        beta=settings.kl,
        epsilon=settings.clip,
        delta=settings.dual_clip,
        loss_type=settings.loss,
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=0,
        generation_kwargs={"use_cache": True},  # the Trainer switches it off in the model's own configuration
        max_completion_length=settings.max_completion_length,
        gradient_checkpointing=settings.gradient_checkpointing,
        save_strategy="steps",
        save_steps=settings.validate_every,
        save_total_limit=2,
        logging_steps=1,
        report_to=list(settings.report_to) or "none",
        disable_tqdm=True,
        seed=config.seed,
        **chosen,
        **_vllm(settings),
        **training.device_arguments(settings.precision),
    )


def _validation_rows(settings: GrpoSettings) -> int:
    """Return a device's rows: whole groups, about as many as in training."""
    return -(-settings.micro_batch // settings.validation_generations) * settings.validation_generations


def _vllm(settings: GrpoSettings) -> dict[str, Any]:
    if settings.vllm is None:
        return {"use_vllm": False}
    return {
        "use_vllm": True,
        "vllm_mode": settings.vllm.mode,
        "vllm_tensor_parallel_size": settings.vllm.tensor_parallel,
        "vllm_gpu_memory_utilization": settings.vllm.memory,
        "vllm_max_model_length": settings.vllm.max_model_length,
    }
