"""What a user may say about vLLM, checked before it starts: ours by name, vLLM's own passed through.

Knows no vLLM: unknown names are refused when the engine starts, where vLLM's own list is at hand.
"""

from __future__ import annotations

from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

OWNED = {
    "model": "say --model",
    "scheduler_cls": "the exactness of the scores depends on this engine's scheduler",
    "worker_extension_cls": "weight swaps depend on this engine's extension",
    "enable_prefix_caching": "sharing prefixes is what this engine is for",
    "logprobs_mode": "rewards need raw log-probabilities",
    "skip_tokenizer_init": "this engine speaks token ids",
    "kv_transfer_config": "the cache cap is not tested with KV connectors",
    "kv_sharing_fast_prefill": "it changes the log-probabilities of prompt tokens",
    "speculative_config": "a scoring engine drafts nothing",
}
"""vLLM arguments that this engine sets or forbids, and why."""


class VllmSettings(BaseModel):
    """`--vllm.<name>`: any argument of vLLM's AsyncEngineArgs, plus this engine's own."""

    model_config = ConfigDict(extra="allow", frozen=True)

    tensor_parallel_size: int = Field(1, ge=1, description="GPUs that share one copy of the model.")
    data_parallel_size: int = Field(1, ge=1, description="Copies; one group stays on one, where its cache is.")
    max_model_len: int | None = Field(None, ge=2, description="Longest context + target + 1; the model's limit.")
    gpu_memory_utilization: float | None = Field(None, gt=0, le=1, description="Fraction of GPU memory to take.")
    quantization: str | None = None
    inflight_tokens: int | None = Field(
        None,
        ge=1,
        description="Prompt tokens handed to vLLM at once, shared prefixes counted each time: bounds host memory "
        "(2,000,000 for a vLLM of our own), or what another's vLLM is asked beside its own work (500,000).",
    )
    stall_s: float = Field(
        300.0, gt=0, description="vLLM's process is replaced when it has work and gives nothing for so long."
    )

    @model_validator(mode="before")
    @classmethod
    def _read_text(cls, given: Any) -> Any:
        """Read vLLM's own arguments as YAML where they come as text, from flags and variables."""
        if not isinstance(given, dict):
            return given
        return {name: value if name in cls.model_fields else _read(value) for name, value in given.items()}

    @model_validator(mode="after")
    def _not_ours(self) -> VllmSettings:
        for name in (self.model_extra or {}).keys() & OWNED.keys():
            raise ValueError(f"--vllm.{name} cannot be set: {OWNED[name]}")
        return self

    def engine_args(self) -> dict[str, Any]:
        """Return what is passed to vLLM: everything that was said, without this engine's own settings."""
        said = self.model_dump(exclude={"inflight_tokens", "stall_s"})
        return {name: value for name, value in said.items() if value is not None}


def _read(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return value
