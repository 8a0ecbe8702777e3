"""What an engine is: flat batches of token trees in, arrays of log-probabilities out.

An engine knows no text, no reward and no HTTP. It owns its device thread: `score` and `generate` are
coroutines that never block the event loop. Failures are `opera_client.errors.OperaError`s
(`engine_out_of_memory`, `engine_failed`, `not_supported`), never numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import Ids, TokenTree

KEPT_BLOCK = 64
"""Tokens. What engines keep of a context from one call to the next is whole blocks, of this length or of a part of
it. Longer ones are computed faster, and more is read again behind the last whole one."""


@dataclass(frozen=True)
class EngineInfo:
    """What an engine serves and how much it takes at a time."""

    engine: str
    """`dummy`, `torch`, …"""
    model: str
    revision: str
    """Content hash or hub revision of the weights on disk, e.g. `sha256:…`."""
    weight_version: str
    dtype: str
    vocab_size: int
    max_context: int
    """Longest context + target, in tokens."""
    max_batch_tokens: int
    """Distinct tree tokens the engine likes to get in one `score` call."""
    route: str = ""
    """How trees are computed, where the engine has a choice."""
    route_reason: str = ""
    """Why so, where it was not the user's choice."""
    borrowed: bool = False
    """Whether the weights are another's, who may replace them unseen: `weight_version` is the last answer's."""
    second: EngineInfo | None = None
    """The frozen model that answers `TokenTree.second`, where there is one."""


@dataclass(frozen=True)
class GenerationRequest:
    """Sample `n` continuations of one prompt."""

    prompt_ids: Ids
    n: int = 1
    max_tokens: int = 256
    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    top_k: int = 0
    """0 keeps the whole vocabulary."""
    seed: int | None = None
    stop_ids: tuple[int, ...] = ()
    """Generation ends after one of these ids, which is kept as the last id."""
    enough: Callable[[Sequence[int]], bool] | None = None
    """Asked with all ids of a continuation so far, on any thread; True says that more are not needed.

    It saves work, no more: an engine may ask rarely or never, and whoever generates cuts the ids himself.
    """


@dataclass(frozen=True)
class Generation:
    """One sampled continuation."""

    token_ids: Ids
    finish_reason: Literal["stop", "length", "enough"]
    """`stop`: the last id is a stop id. `length`: max_tokens or the model's end. `enough`: as the request said."""
    weight_version: str = ""
    """Version of the weights that sampled it."""


@dataclass(frozen=True)
class EngineHealth:
    """Whether the engine can score now, and why not."""

    ok: bool
    detail: str = ""
    gauges: dict[str, float] = field(default_factory=dict)
    """Engine-specific numbers for /metrics, e.g. `memory_bytes`."""
    stalled_s: float = 0.0
    """Seconds since the device last showed a sign of life, while it has work."""
    hopeless: bool = False
    """Whether only a new process can help."""


@dataclass(frozen=True)
class Probe:
    """What new weights must pass before they serve: a tree scored on them, and who judges the scores."""

    tree: TokenTree
    judge: Callable[[TreeScores], None]
    """Raises an `OperaError` to refuse the weights. Runs on any thread but the event loop's, and may wait there;
    nothing is scored meanwhile."""


class WeightReceiver(Protocol):
    """Weights that a trainer pushes into the device by vLLM's own protocol: init, start, update…, finish.

    From `start` to `finish` nothing is scored; an update that fails returns to the weights before.
    """

    @property
    def world_size(self) -> int:
        """Ranks of this engine in the trainer's process group."""
        ...

    async def init(self, init_info: dict[str, Any]) -> None:
        """Meet the trainer's process group."""
        ...

    async def start(self) -> None:
        """Wait for work in flight, then keep everybody out."""
        ...

    async def update(self, update_info: dict[str, Any] | list[dict[str, Any]]) -> None:
        """Receive some tensors."""
        ...

    async def finish(self, version: str | None = None) -> str:
        """Serve what was received, as `version`; return the version."""
        ...


class Engine(Protocol):
    """One model on one device (group)."""

    @property
    def info(self) -> EngineInfo:
        """The model, its weights and limits, as of now."""
        ...

    async def score(self, trees: Sequence[TokenTree]) -> list[TreeScores]:
        """Fill every tree. A tree is computed on one weight version, whatever happens meanwhile."""
        ...

    async def generate(self, requests: Sequence[GenerationRequest]) -> list[list[Generation]]:
        """Sample continuations; one list of `n` per request."""
        ...

    async def load_weights(self, source: Path, version: str, *, probe: Probe | None = None) -> None:
        """Serve the safetensors in `source` (a file, or a folder of one checkpoint) as `version`.

        The folder of a LoRA adapter serves on top of the last whole checkpoint; the revision then is that of
        `engines.adapter.adapter_revision`.

        The swap is atomic: a `score` that has begun ends on the old weights, later ones see only the new, and
        `info` names what serves. `source` must stay readable as long as it serves. Raises `InvalidWeights`
        naming the tensor, what the probe's judge raises, `NotSupported`, or an engine's own error; whatever is
        raised, the old weights serve on. A caller that goes away meanwhile leaves one or the other, whole.
        """
        ...

    async def drop_adapter(self) -> None:
        """Serve the last whole checkpoint again, under its version; nothing changes when no adapter serves."""
        ...

    def health(self) -> EngineHealth:
        """Cheap: never waits for the device."""
        ...

    async def aclose(self) -> None:
        """Finish work in flight and free the device."""
        ...
