"""What vLLM serves, and what it needs to be put back. Knows paths and a core; calls nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from opera_service.engines.vllm.core import Core


@dataclass(frozen=True)
class ServedVllmWeights:
    """Weights that were served once, and what is needed to serve and recognise them again."""

    source: str
    """Folder or hub id; empty when they came over a process group and are on no disk."""
    version: str
    revision: str
    canary: float
    """Mean log-probability of the probe's fixed ids."""
    adapter: Path | None = None
    """Folder of the LoRA adapter on top of `source`."""
    under: ServedVllmWeights | None = None
    """What serves without that adapter."""


@dataclass
class Swap:
    """One replacement of the weights, while it goes on."""

    core: Core
    weights: ServedVllmWeights | None = None
    on_disk: bool = False
    """Whether a restart can read them again."""
