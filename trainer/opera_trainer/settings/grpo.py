"""How the policy is trained on rewards, and by which scorer. Knows no stage."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from opera_trainer.settings.base import Settings
from opera_trainer.settings.sft import LoraSettings, Precision, Schedule


class RewardSettings(Settings):
    """Which reward, as in `POST /reward`."""

    name: str = "opera"
    preset: str = "hardened"
    config: dict[str, Any] = Field(default_factory=dict, description="Overrides single fields of the preset.")


class ScorerSettings(Settings):
    """Whose log-probabilities the reward is read off (D22)."""

    model: str = Field(
        "base",
        description="`base`: the run's model before SFT; `start`: what GRPO starts from; `random`: the same "
        "network untrained, as a control; else a Hugging Face id or folder.",
    )
    follow: Literal["frozen", "synced", "ema"] = Field(
        "frozen",
        description="`synced`: the policy's weights after every step; `ema`: their running mean, a slow proxy.",
    )
    decay: float = Field(0.9, gt=0, lt=1, description="`ema`: share of the old proxy that stays at each step.")

    @model_validator(mode="after")
    def _consistent(self) -> ScorerSettings:
        if self.follow != "frozen" and self.model not in ("base", "start"):
            raise ValueError(f"follow: {self.follow} pushes the policy's own weights; leave `model` out")
        return self


class VllmSettings(Settings):
    """Rollouts by vLLM, as TRL runs it."""

    mode: Literal["colocate", "server"] = "colocate"
    tensor_parallel: int = Field(1, ge=1)
    memory: float = Field(0.4, gt=0, lt=1, description="Share of the device's memory, `colocate`.")
    max_model_length: int | None = Field(None, ge=1)


class GrpoSettings(Settings):
    """GRPO. Defaults fit the embedded model."""

    reward: RewardSettings = RewardSettings()
    scorer: ScorerSettings = ScorerSettings()
    rollouts: int = Field(100, ge=1, description="Batches of completions that are sampled.")
    prompts: int = Field(8, ge=1, description="Prompts a rollout batch.")
    generations: int = Field(8, ge=2, description="Completions a prompt: the group.")
    prompts_per_update: int = Field(8, ge=1, description="Prompts an optimizer step; divides `prompts`.")
    micro_batch: int = Field(64, ge=1, description="Completions a device and forward pass.")
    learning_rate: float = Field(2e-4, gt=0)
    schedule: Schedule = "linear"
    warmup: float = Field(0.0, ge=0, lt=1, description="Share of the steps.")
    weight_decay: float = Field(0.0, ge=0)
    kl: float = Field(0.0, ge=0, description="Weight of the KL term against the start (beta).")
    clip: float = Field(0.2, gt=0, description="Of the probability ratio, both sides.")
    dual_clip: float | None = Field(None, gt=1, description="Upper bound of the ratio where the advantage is < 0.")
    loss: Literal["grpo", "bnpo", "dr_grpo", "dapo"] = Field(
        "dapo", description="`dapo`, `bnpo`: mean over tokens; `grpo`: mean over sequences first."
    )
    temperature: float = Field(1.0, gt=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_prompt_length: int = Field(512, ge=1, description="Tokens; longer prompts are left out.")
    max_completion_length: int = Field(110, ge=1, description="Tokens.")
    validate_every: int = Field(20, ge=1, description="Optimizer steps between validations, each a checkpoint.")
    validation_generations: int = Field(4, ge=2, description="Completions a validation task.")
    select_by: tuple[str, ...] = Field(
        ("opera/answer",),
        description="Logged metrics whose sum on validation tasks chooses the best checkpoint; `reward` is one. "
        "None: the last weights are kept.",
    )
    show_every: int = Field(
        10, ge=0, description="Steps between groups that are kept in `samples.jsonl` while training; 0: none."
    )
    report_to: tuple[str, ...] = Field((), description="Live curves as in TRL: tensorboard, wandb, trackio.")
    precision: Precision = "float32"
    gradient_checkpointing: bool = False
    lora: LoraSettings | None = None
    vllm: VllmSettings | None = None

    @model_validator(mode="after")
    def _divides(self) -> GrpoSettings:
        if self.prompts % self.prompts_per_update:
            raise ValueError(f"prompts_per_update={self.prompts_per_update} must divide prompts={self.prompts}")
        if self.lora is not None and self.scorer.follow != "frozen":
            raise ValueError(
                "lora: adapters cannot be pushed to a scorer; freeze the scorer or train whole weights"
            )
        return self

    @property
    def updates(self) -> int:
        """Optimizer steps of the whole run."""
        return self.rollouts * self.prompts // self.prompts_per_update
