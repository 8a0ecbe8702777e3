"""Weights to send: a safetensors file, its bytes, or a checkpoint's folder, whose shards travel as one file.

Reads in pieces and only headers as a whole. Knows the safetensors layout; no torch, no service.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opera_client.errors import InvalidRequest

_PIECE = 2**20
_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class _Part:
    path: Path
    begin: int
    size: int


@dataclass(frozen=True)
class WeightBody:
    """What travels: some bytes, then parts of files."""

    head: bytes
    parts: tuple[_Part, ...] = ()

    @classmethod
    def of(cls, weights: Path | str | bytes) -> WeightBody:
        """Look at the weights, without reading more than headers.

        Raises:
            InvalidRequest: there are none, or a shard cannot be read.
        """
        if isinstance(weights, bytes):
            return cls(weights)
        if not isinstance(weights, str | Path):
            raise InvalidRequest(f"give a path or bytes, not {type(weights).__name__}", field="path")
        try:
            path = Path(weights).expanduser()
            files = _files(path)
            if len(files) == 1:
                return cls(b"", (_Part(files[0], 0, files[0].stat().st_size),))
            return _joined(files)
        except OSError as error:
            raise InvalidRequest(f"{weights} cannot be read: {error.strerror or error}", field="path") from None
        except (ValueError, RuntimeError) as error:  # a path that no file can have, a home that is not known
            raise InvalidRequest(f"{str(weights)!r} is no path: {error}", field="path") from None

    @property
    def size(self) -> int:
        """Bytes in all."""
        return len(self.head) + sum(part.size for part in self.parts)

    async def sha256(self) -> str:
        """Read everything once; return the digest."""
        return await asyncio.to_thread(self._sha256)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield everything, a MiB at a time."""
        blocks = self._blocks()
        while (block := await asyncio.to_thread(next, blocks, None)) is not None:
            yield block

    def _sha256(self) -> str:
        digest = hashlib.sha256()
        for block in self._blocks():
            digest.update(block)
        return digest.hexdigest()

    def _blocks(self) -> Iterator[bytes]:
        for at in range(0, len(self.head), _PIECE):
            yield self.head[at : at + _PIECE]
        for part in self.parts:
            with part.path.open("rb") as file:
                file.seek(part.begin)
                left = part.size
                while left:
                    block = file.read(min(left, _PIECE))
                    if not block:
                        raise InvalidRequest(f"{part.path} became shorter while it was sent", field="path")
                    left -= len(block)
                    yield block


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        if not path.exists():
            raise InvalidRequest(f"there is nothing at {path}", field="path")
        return [path]
    if (path / _INDEX).is_file():
        try:
            names = json.loads((path / _INDEX).read_text(encoding="utf-8"))["weight_map"].values()
            return [path / name for name in sorted(set(names))]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise InvalidRequest(f"{path / _INDEX} cannot be read; write it again", field="path") from None
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise InvalidRequest(f"{path} holds no *.safetensors files", field="path")
    return files


def _joined(files: list[Path]) -> WeightBody:
    """One header over all shards, whose data follow one another."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    parts, shift = [], 0
    for path in files:
        length, own = _header(path)
        for name, entry in own.items():
            if name == "__metadata__":
                continue
            if name in header:
                raise InvalidRequest(f"tensor {name!r} is in several files of {path.parent}", field="path")
            begin, end = entry["data_offsets"]
            header[name] = {**entry, "data_offsets": [begin + shift, end + shift]}
        part = _Part(path, 8 + length, path.stat().st_size - 8 - length)
        parts.append(part)
        shift += part.size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data begin at a multiple of 8
    return WeightBody(len(text).to_bytes(8, "little") + text, tuple(parts))


def _header(path: Path) -> tuple[int, dict[str, Any]]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            if length > path.stat().st_size:
                raise ValueError
            header = json.loads(file.read(length))
            entries = [entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"]
            if any(len(entry) != 2 or any(type(at) is not int for at in entry) for entry in entries):
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise InvalidRequest(f"{path} is no safetensors file; write it again", field="path") from None
    return length, header
