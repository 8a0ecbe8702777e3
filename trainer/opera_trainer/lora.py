"""Low-rank adapters by peft: made from settings, merged into the weights before these are saved."""

from __future__ import annotations

from typing import Any

from opera_trainer.models import Model
from opera_trainer.settings.sft import LoraSettings


def adapters(settings: LoraSettings | None) -> Any:
    """Return peft's configuration, None for full fine-tuning."""
    if settings is None:
        return None
    from peft import LoraConfig

    modules = settings.modules
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=modules if isinstance(modules, str) else list(modules),
        task_type="CAUSAL_LM",
    )


def merged(model: Model) -> Model:
    """Return the model with its adapters merged into its weights; a model without adapters as it is."""
    return model.merge_and_unload() if hasattr(model, "peft_config") else model
