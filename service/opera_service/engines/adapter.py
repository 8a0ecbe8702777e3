"""LoRA adapters on disk, as PEFT saves them: which linear layer, which two factors, which scale.

Everything that is not a plain low-rank update of a linear layer is refused by name, since to leave it out would be
a wrong model. Knows folders and headers; no torch, no model.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opera_client.errors import InvalidWeights
from opera_service.engines.checkpoint import (
    WeightFile,
    content_hash,
    joint_hash,
    json_of,
    read_headers,
    tensors_by_name,
)

CONFIG = "adapter_config.json"
_MAX_ALPHA = 1e6
_PREFIX = "base_model.model."
_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
_MERGE = "merge it into the model (`merge_and_unload()`) and load the result"
_PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none", None),
    "use_dora": (False, None),
    "use_qalora": (False, None),
    "alora_invocation_tokens": (None,),
    "trainable_token_indices": (None,),
    "lora_bias": (False, None),
}
"""Settings of adapter_config.json that change what an adapter means, and their values here."""


@dataclass(frozen=True)
class LowRank:
    """W + scale · B A for one linear layer, with A [rank, in] and B [out, rank]."""

    module: str
    """Name of the layer in the model, e.g. `model.layers.0.self_attn.q_proj`."""
    a: str
    """Name of A in the file."""
    b: str
    rank: int
    shape: tuple[int, int]
    """[out, in] of the update."""
    scale: float
    """alpha / rank, or alpha / sqrt(rank) where `use_rslora` says so (arXiv 2312.03732)."""


@dataclass(frozen=True)
class Adapter:
    """One adapter, its headers read and checked."""

    files: list[WeightFile]
    layers: tuple[LowRank, ...]
    transposed: bool
    """Whether the model stores these layers as [in, out]."""
    uniform: bool
    """Whether every layer has the rank and alpha of the whole."""

    @property
    def rank(self) -> int:
        """The largest rank of a layer."""
        return max(layer.rank for layer in self.layers)


def is_adapter(source: Path) -> bool:
    """Whether the folder holds an adapter rather than a checkpoint."""
    return (source / CONFIG).is_file()


def read_adapter(source: Path) -> Adapter:
    """Read a folder that PEFT wrote. Raises `InvalidWeights` naming the setting or tensor."""
    config = _config(source)
    files = read_headers(source)
    stored = tensors_by_name(files)
    factors: dict[str, dict[str, str]] = {}
    for name in stored:
        match = _FACTOR.fullmatch(name.removeprefix(_PREFIX))
        if match is None:
            raise InvalidWeights(f"tensor {name!r} of the adapter is no LoRA factor of a linear layer; {_MERGE}")
        factors.setdefault(match["module"], {})[match["side"]] = name
    if not factors:
        raise InvalidWeights(f"{source.name} holds an adapter without any tensor; save it again")
    layers = []
    for module, sides in sorted(factors.items()):
        for side in "AB":
            if side not in sides:
                raise InvalidWeights(f"the adapter lacks lora_{side} of {module!r}; save it again")
        a, b = stored[sides["A"]].shape, stored[sides["B"]].shape
        if len(a) != 2 or len(b) != 2 or a[0] != b[1] or not a[0]:
            raise InvalidWeights(f"lora_A {list(a)} and lora_B {list(b)} of {module!r} do not multiply")
        layers.append(
            LowRank(module, sides["A"], sides["B"], a[0], (b[0], a[1]), _scale(config, module, rank=a[0]))
        )
    return Adapter(
        files,
        tuple(layers),
        transposed=bool(config.get("fan_in_fan_out")),
        uniform=not config.get("rank_pattern") and not config.get("alpha_pattern"),
    )


def _config(source: Path) -> dict[str, Any]:
    config = json_of(source / CONFIG)
    if not isinstance(config, dict):
        raise InvalidWeights(f"{CONFIG} is not an object; save the adapter again")
    for name, plain in _PLAIN.items():
        if name in config and config[name] not in plain:
            raise InvalidWeights(
                f"{CONFIG}: {name} is {repr(config[name])[:80]}, which cannot be served; {_MERGE}"
            )
    if config.get("modules_to_save"):
        raise InvalidWeights(f"{CONFIG}: modules_to_save are whole layers beside the adapter; {_MERGE}")
    return config


def _scale(config: dict[str, Any], module: str, *, rank: int) -> float:
    alpha = config.get("lora_alpha")
    # As PEFT matches them: the first pattern that is the end of the name, on a dot.
    patterns = config.get("alpha_pattern") or {}
    if not isinstance(patterns, dict):
        raise InvalidWeights(f"{CONFIG}: alpha_pattern is not an object; save the adapter again")
    for pattern, own in patterns.items():
        try:
            found = re.match(rf"(.*\.)?({pattern})$", module)
        except re.error as error:
            raise InvalidWeights(f"{CONFIG}: alpha_pattern {pattern[:80]!r} is no pattern: {error}") from None
        if found:
            alpha = own
            break
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not abs(alpha) <= _MAX_ALPHA:
        raise InvalidWeights(f"{CONFIG}: lora_alpha is {repr(alpha)[:80]}, not a number within ±{_MAX_ALPHA:g}")
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def has_adapter(revision: str) -> bool:
    """Whether weights of this revision have an adapter on top."""
    return "+" in revision


def adapter_revision(base: str, source: Path) -> str:
    """Return what serves with the adapter at `source` on top of `base`, less an adapter that is there already.

    Hashes its configuration, too: a scale is half of an adapter.
    """
    try:
        config = hashlib.sha256((source / CONFIG).read_bytes()).hexdigest()
    except OSError as error:
        raise InvalidWeights(f"{CONFIG} cannot be read: {error.strerror or error}") from None
    return f"{base.partition('+')[0]}+{joint_hash([config, content_hash(source)])}"
