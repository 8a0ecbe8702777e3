"""Puts the weights of a checkpoint into a model that is serving, whole or not at all.

`check` and `stage` read and judge everything while the old weights serve; `Staged.swap` and `overwrite` are
for the device thread alone and can be taken back. Knows no versions, no trees, no HTTP.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from opera_client.errors import EngineFailed, EngineOutOfMemory, InvalidWeights
from opera_service.engines.adapter import LowRank, read_adapter
from opera_service.engines.checkpoint import (
    StoredTensor,
    WeightFile,
    joint_hash,
    read_exactly,
    read_headers,
    tensors_by_name,
)
from opera_service.engines.torch.memory import out_of_memory

Undo = Callable[[], None]
Base = dict[int, tuple[Tensor, Tensor]]
"""Served tensors that an adapter is merged into, by id, each with its weights without the adapter."""

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "I64": torch.int64, "I32": torch.int32,
    "I16": torch.int16, "I8": torch.int8, "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16,
    "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
_CASTABLE = {torch.float64, torch.float32, torch.float16, torch.bfloat16}
"""Among these a tensor is cast to the served dtype, as when a model is loaded; any other must be equal."""


@dataclass(frozen=True)
class Staged:
    """New weights that wait in memory beside the served ones."""

    revision: str
    tensors: tuple[tuple[Tensor, Tensor], ...]
    """Pairs of served and new."""
    base: Base = field(default_factory=dict)

    def swap(self) -> Undo:
        """Point the model to the new weights; the old ones are freed with the returned undo."""
        old = [(slot, slot.data) for slot, _ in self.tensors]
        for slot, new in self.tensors:
            slot.data = new
        return lambda: _point(old)


class ServedWeights:
    """The named tensors of a model in memory, and how others take their place.

    Names are those of `model.state_dict()`. Tied tensors are one slot with several names: a checkpoint needs
    one of them, and where it has more they must be equal.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        named = model.state_dict(keep_vars=True)
        self._slots: dict[str, Tensor] = {name: slot for name, slot in named.items() if isinstance(slot, Tensor)}
        count = Counter(id(slot) for slot in self._slots.values())
        self._tied = {one for one, names in count.items() if names > 1}
        self.base: Base = {}
        """Of what serves; whoever swaps keeps it."""
        self._ignored = [re.compile(pattern) for pattern in model._keys_to_ignore_on_load_unexpected or ()]

    def stage(self, source: Path) -> Staged:
        """Read and check everything, and put it next to the served weights: twice their memory from here on.

        Raises `InvalidWeights` naming the tensor, `EngineOutOfMemory` when both do not fit.
        """
        files, staged = self._fitting(source), {}
        reading = _Reading(files)
        for name, new in self._checked(reading):
            slot = self._slots[name]
            staged[id(slot)] = (slot, _placed(new, slot))
        return Staged(reading.revision, tuple(staged.values()))

    def stage_adapter(self, source: Path) -> Staged:
        """Merge a LoRA adapter into the layers it names, beside the served ones; the base stays for the next one.

        Raises `InvalidWeights` naming the tensor or setting, `EngineOutOfMemory` when both do not fit.
        """
        adapter = read_adapter(source)
        wanted = {layer.module: self._layer(layer, transposed=adapter.transposed) for layer in adapter.layers}
        factors = {name: raw for name, raw in _Reading(adapter.files) if _is_finite(name, raw)}
        base = {id(slot): self.base.get(id(slot), (slot, slot.data)) for slot in wanted.values()}
        new = {key: pair for key, pair in self.base.items() if key not in base}  # no longer adapted
        for layer in adapter.layers:
            slot = wanted[layer.module]
            full = base[id(slot)][1]
            wide = torch.promote_types(full.dtype, torch.float32)
            update = layer.scale * (factors[layer.b].to(wide) @ factors[layer.a].to(wide))
            merged = full.to(wide) + _placed(update.T if adapter.transposed else update, full)
            if not _all_finite(merged := merged.to(full.dtype)):
                raise InvalidWeights(f"with the adapter, {layer.module!r} is not finite")
            new[id(slot)] = (slot, merged)
        return Staged("", tuple(new.values()), base)

    def without_adapter(self) -> Staged:
        """The served weights less the adapter in them."""
        return Staged("", tuple(self.base.values()))

    def _layer(self, layer: LowRank, *, transposed: bool) -> Tensor:
        slot = self._slots.get(f"{layer.module}.weight")
        if slot is None:
            raise InvalidWeights(f"the adapter changes {layer.module!r}, which is no layer of the model")
        if id(slot) in self._tied:
            raise InvalidWeights(
                f"the adapter changes {layer.module!r}, whose weights another layer shares; adapt other layers"
            )
        shape = layer.shape[::-1] if transposed else layer.shape
        if tuple(slot.shape) != shape:
            raise InvalidWeights(
                f"the adapter's {layer.module!r} has shape {list(shape)}, the model's has {list(slot.shape)}"
            )
        return slot

    def check(self, source: Path) -> str:
        """Read and check everything, keeping one tensor at a time; return the revision. Raises like `stage`."""
        reading = _Reading(self._fitting(source))
        for _ in self._checked(reading):
            pass
        return reading.revision

    def overwrite(self, source: Path, revision: str) -> Undo:
        """Write the weights of `source`, checked before, over the served ones; the old ones wait in host memory.

        Raises `InvalidWeights` when the files are no longer those of `revision`; the old weights are back then.
        """
        old: dict[int, tuple[Tensor, Tensor]] = {}

        def undo() -> None:
            for slot, kept in old.values():
                slot.data.copy_(kept)

        try:
            reading = _Reading(self._fitting(source))
            for name, new in self._checked(reading):
                slot = self._slots[name]
                if id(slot) not in old:
                    old[id(slot)] = (slot, slot.data.to("cpu", copy=True))
                    slot.data.copy_(new)
            if reading.revision != revision:
                raise InvalidWeights(f"{source.name} was changed while it was read; load it again")
        except BaseException:  # whatever it is, half of the new weights must not serve
            undo()
            raise
        return undo

    def _fitting(self, source: Path) -> list[WeightFile]:
        """Read the headers. Raises `InvalidWeights` unless names, shapes and dtypes are the model's."""
        files = read_headers(source)
        stored = tensors_by_name(files)
        given = {id(self._slots[name]) for name in stored if name in self._slots}
        for name, slot in self._slots.items():
            if id(slot) not in given:
                raise InvalidWeights(
                    f"tensor {name!r} is missing; push all of the model's state_dict() under its own names"
                )
        for name, tensor in stored.items():
            self._fits(name, tensor)
        return files

    def _fits(self, name: str, tensor: StoredTensor) -> None:
        slot = self._slots.get(name)
        if slot is None:
            if any(pattern.search(name) for pattern in self._ignored):
                return
            raise InvalidWeights(
                f"tensor {name!r} is none of the model's; push its state_dict() under its own names"
            )
        if tensor.shape != tuple(slot.shape):
            raise InvalidWeights(
                f"tensor {name!r} has shape {list(tensor.shape)}, the model has {list(slot.shape)}"
            )
        dtype = DTYPES[tensor.dtype]
        if dtype != slot.dtype and not {dtype, slot.dtype} <= _CASTABLE:
            raise InvalidWeights(
                f"tensor {name!r} has dtype {tensor.dtype}, which does not become {_short(slot.dtype)}"
            )

    def _checked(self, reading: _Reading) -> Iterator[tuple[str, Tensor]]:
        """Yield the model's tensors on the CPU, in the served dtype and finite, each slot once."""
        first: dict[int, tuple[str, bytes]] = {}
        for name, raw in reading:
            slot = self._slots.get(name)
            if slot is None:
                continue
            new = raw.to(slot.dtype)
            if new.is_floating_point() and not _all_finite(new):
                raise InvalidWeights(f"tensor {name!r} holds NaN or infinity as {_short(slot.dtype)}")
            known = first.get(id(slot))
            digest = _digest(new) if id(slot) in self._tied else b""
            if known is None:
                first[id(slot)] = (name, digest)
                yield name, new
            elif known[1] != digest:
                raise InvalidWeights(
                    f"tensor {name!r} differs from {known[0]!r}, but the model ties them: one of them is stale"
                )


class _Reading:
    """One pass over the files, in order of their bytes, which also gives their revision."""

    def __init__(self, files: list[WeightFile]) -> None:
        self._files = files
        self._digests: list[str] = []

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for weight_file in self._files:
            digest = hashlib.sha256()
            try:
                with weight_file.path.open("rb") as file:
                    weight_file.must_be_unchanged(file)
                    digest.update(file.read(weight_file.header_size))
                    for stored in weight_file.tensors:
                        buffer = torch.empty(stored.size, dtype=torch.uint8)
                        read_exactly(file, buffer.numpy().data, stored)
                        digest.update(buffer.numpy().data)
                        yield stored.name, buffer.view(DTYPES[stored.dtype]).reshape(stored.shape)
                    weight_file.must_be_unchanged(file)
            except OSError as error:
                raise InvalidWeights(
                    f"{weight_file.path.name} cannot be read: {error.strerror or error}"
                ) from None
            self._digests.append(digest.hexdigest())

    @property
    def revision(self) -> str:
        """`sha256:…` of what was read, after the last tensor."""
        return joint_hash(self._digests)


def _is_finite(name: str, raw: Tensor) -> bool:
    if not raw.is_floating_point() or not _all_finite(raw):
        raise InvalidWeights(f"tensor {name!r} of the adapter holds numbers that are not finite, or no numbers")
    return True


def _all_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor.float() if tensor.itemsize == 1 else tensor).all())


def _digest(tensor: Tensor) -> bytes:
    return hashlib.sha256(tensor.reshape(-1).view(torch.uint8).numpy().data).digest()


def _placed(new: Tensor, slot: Tensor) -> Tensor:
    try:
        return new.to(slot.device)
    except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise EngineFailed(f"new weights could not be put on {slot.device}: {error}") from error
        raise EngineOutOfMemory(
            f"new weights do not fit on {slot.device} beside the served ones; serve with --weights-mode in_place"
        ) from error


def _point(pairs: list[tuple[Tensor, Tensor]]) -> None:
    for slot, data in pairs:
        slot.data = data


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
