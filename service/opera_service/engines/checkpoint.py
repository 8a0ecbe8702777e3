"""Weights on disk, as far as they can be judged without a model: which tensors, where, how long, which hash.

Reads safetensors headers itself: no pickle, no memory map (a file that shrinks under one kills the process), and
a broken file is refused with the name of the tensor. Knows no torch and no model.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from opera_client.errors import InvalidWeights

INDEX = "model.safetensors.index.json"
BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
"""Bytes of one number, by safetensors' name of the dtype."""
_MAX_HEADER = 8 * 2**20
"""Bytes of a header or an index. The largest open models need less than 1 MiB; parsing these takes about 50 ms."""
_MAX_NAME = 512
_MAX_DIMENSIONS = 64
"""As torch has."""


@dataclass(frozen=True)
class StoredTensor:
    """One tensor in a file."""

    name: str
    dtype: str
    """As safetensors calls it: `F32`, `BF16`, `I64`, …"""
    shape: tuple[int, ...]
    begin: int
    """Offset of its first byte, from the start of the file."""
    size: int
    """Bytes."""


@dataclass(frozen=True)
class WeightFile:
    """One safetensors file, its header read and checked."""

    path: Path
    header_size: int
    tensors: tuple[StoredTensor, ...]
    """In the order of their bytes, without holes, up to the end of the file."""
    stamp: tuple[int, ...]
    """Which file it was, how long and from when, as its header was read."""

    def must_be_unchanged(self, file: BinaryIO) -> None:
        """Raise `InvalidWeights` when `file`, open now, is not what the header was read from."""
        if _stamp(file) != self.stamp:
            raise InvalidWeights(f"{self.path.name} was changed while it was read; load it when it is complete")


def weight_files(source: Path) -> list[Path]:
    """Return the safetensors files of `source`: itself, or of a folder those in its index, or all.

    Raises `InvalidWeights` when there are none, or the index is broken or names files outside of the folder.
    """
    if source.is_file():
        if source.suffix != ".safetensors":
            raise InvalidWeights(f"{source.name} is no .safetensors file, and nothing else is read")
        return [source]
    if (source / INDEX).is_file():
        return _indexed(source)
    files = sorted(path for path in source.glob("*.safetensors") if path.is_file())
    if not files:
        raise InvalidWeights(f"{source.name} is no .safetensors file and no folder that holds any")
    return files


def read_headers(source: Path) -> list[WeightFile]:
    """Read the header of every file. Raises `InvalidWeights` for a broken one, naming the tensor where it can."""
    files = [_read_header(path) for path in weight_files(source)]
    seen: dict[str, str] = {}
    for file in files:
        for tensor in file.tensors:
            if tensor.name in seen:
                raise InvalidWeights(
                    f"tensor {tensor.name!r} is in {seen[tensor.name]} and {file.path.name}; give one checkpoint"
                )
            seen[tensor.name] = file.path.name
    return files


def tensors_by_name(files: list[WeightFile]) -> dict[str, StoredTensor]:
    """Return every tensor of all files."""
    return {tensor.name: tensor for file in files for tensor in file.tensors}


def content_hash(source: Path) -> str:
    """Return `sha256:…` of the one weight file, or of the list of the files' hashes in order of their names."""
    digests = []
    for path in weight_files(source):
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return joint_hash(digests)


def joint_hash(digests: list[str]) -> str:
    """Return the revision of a checkpoint from the sha256 of its files, in order of their names."""
    one = digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
    return f"sha256:{one}"


def read_exactly(file: BinaryIO, into: memoryview, tensor: StoredTensor) -> None:
    """Fill `into` with the next bytes of `file`. Raises `InvalidWeights` when it ends before `tensor` does."""
    filled = 0
    while filled < len(into):
        count = file.readinto(into[filled:])  # type: ignore[attr-defined]
        if not count:
            raise InvalidWeights(_cut_short(Path(file.name), tensor))
        filled += count


def json_of(path: Path) -> Any:
    """Return the JSON of a small file beside weights. Raises `InvalidWeights`."""
    try:
        if path.stat().st_size > _MAX_HEADER:
            raise InvalidWeights(f"{path.name} is larger than {_MAX_HEADER} bytes; write it again")
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once_each)
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidWeights(f"{path.name} cannot be read ({type(error).__name__}); write it again") from None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _indexed(folder: Path) -> list[Path]:
    try:
        names = set(json_of(folder / INDEX)["weight_map"].values())
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidWeights(f"{INDEX} cannot be read ({type(error).__name__}); write it again") from None
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise InvalidWeights(
                f"{INDEX} names {repr(name)[:_MAX_NAME]}, which is no .safetensors file of the same folder"
            )
        if not (folder / name).is_file():
            raise InvalidWeights(f"{INDEX} names {name}, which is missing; wait until the checkpoint is complete")
    if not names:
        raise InvalidWeights(f"{INDEX} names no files")
    return [folder / name for name in sorted(names)]


def _read_header(path: Path) -> WeightFile:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            stamp = _stamp(file)
            size = stamp[1]
            if not 2 <= length <= min(_MAX_HEADER, size - 8):
                raise InvalidWeights(f"{path.name} is no safetensors file, or is cut short inside its header")
            header = json.loads(file.read(length), object_pairs_hook=_once_each)
    except OSError as error:
        raise InvalidWeights(f"{path.name} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise InvalidWeights(
            f"{path.name} is no safetensors file: its header is not JSON, or has a key twice"
        ) from None
    if not isinstance(header, dict):
        raise InvalidWeights(f"{path.name} is no safetensors file: its header is not an object")
    stored = (_stored(path, name, entry, 8 + length) for name, entry in header.items() if name != "__metadata__")
    tensors = tuple(sorted(stored, key=lambda tensor: (tensor.begin, tensor.size)))
    end = 8 + length
    for tensor in tensors:
        if tensor.begin != end:
            raise InvalidWeights(f"the bytes of tensor {tensor.name!r} in {path.name} overlap or leave a hole")
        end += tensor.size
        if end > size:
            raise InvalidWeights(_cut_short(path, tensor))
    if end != size:
        raise InvalidWeights(f"{path.name} has {size - end} bytes behind its last tensor; write it again")
    return WeightFile(path, 8 + length, tensors, stamp)


def _stored(path: Path, name: str, entry: Any, data: int) -> StoredTensor:
    if len(name) > _MAX_NAME:
        raise InvalidWeights(f"the header of {path.name} has a tensor's name of {len(name)} characters")
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        if any(type(number) is not int or number < 0 for number in (*shape, begin, end)):
            raise ValueError
        if not isinstance(dtype, str) or len(shape) > _MAX_DIMENSIONS or max((*shape, begin, end)) >= 2**63:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise InvalidWeights(f"the header of {path.name} describes tensor {name!r} wrongly") from None
    if dtype not in BYTES:
        raise InvalidWeights(f"tensor {name!r} has dtype {dtype[:32]!r}, which cannot be read")
    if end - begin != BYTES[dtype] * math.prod(shape):
        raise InvalidWeights(f"tensor {name!r} of shape {list(shape)} and dtype {dtype} has {end - begin} bytes")
    return StoredTensor(name, dtype, shape, data + begin, end - begin)


def _stamp(file: BinaryIO) -> tuple[int, ...]:
    status = os.fstat(file.fileno())
    return status.st_ino, status.st_size, status.st_mtime_ns


def _cut_short(path: Path, tensor: StoredTensor) -> str:
    return f"{path.name} is cut short inside tensor {tensor.name!r}; wait until it is written, or write it again"
