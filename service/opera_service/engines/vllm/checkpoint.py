"""Weights on disk, as far as they can be judged without loading them: which tensors, which content hash.

Knows safetensors files; knows no vLLM and no model.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

from opera_client.errors import InvalidRequest

Shapes = dict[str, tuple[int, ...]]


def weight_files(source: Path) -> list[Path]:
    """Return the safetensors files of a checkpoint folder. Raises InvalidRequest when there are none."""
    files = sorted(source.glob("*.safetensors")) if source.is_dir() else []
    if not files:
        raise InvalidRequest(f"{source} is not a folder with *.safetensors files", field="path")
    return files


def tensor_shapes(source: Path) -> Shapes:
    """Return name -> shape of every tensor, from the files' headers. Raises InvalidRequest for a broken file."""
    shapes: Shapes = {}
    for path in weight_files(source):
        try:
            with path.open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                if length > path.stat().st_size:
                    raise ValueError("header longer than the file")
                header = json.loads(file.read(length))
            end = 8 + length + max((entry["data_offsets"][1] for entry in _tensors(header).values()), default=0)
            if end > path.stat().st_size:
                raise ValueError("the file is cut short")
            shapes |= {name: tuple(entry["shape"]) for name, entry in _tensors(header).items()}
        except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
            raise InvalidRequest(f"{path} is not a readable safetensors file: {error}", field="path") from error
    return shapes


def must_match(new: Shapes, served: Shapes) -> None:
    """Raise InvalidRequest unless `new` has the tensors of `served`, shape by shape."""
    for name in sorted(served.keys() | new.keys()):
        if name not in new:
            raise InvalidRequest(f"the new weights lack the tensor {name}", field="path")
        if name not in served:
            raise InvalidRequest(f"the new weights have a tensor {name} that the model lacks", field="path")
        if new[name] != served[name]:
            raise InvalidRequest(
                f"{name} has shape {list(new[name])}, the model has {list(served[name])}", field="path"
            )


def describe(model: Path) -> tuple[str, Shapes | None]:
    """Return content hash and shapes of a model folder; `unknown` and None for a hub id or other formats."""
    if not model.is_dir() or not any(model.glob("*.safetensors")):
        return "unknown", None
    return content_hash(model), tensor_shapes(model)


def content_hash(source: Path) -> str:
    """Return `sha256:…` of the one weight file, or of the list of the files' hashes: as the torch engine does."""
    digests = []
    for path in weight_files(source):
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return "sha256:" + (
        digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
    )


def _tensors(header: dict[str, dict[str, list[int]]]) -> dict[str, dict[str, list[int]]]:
    return {name: entry for name, entry in header.items() if name != "__metadata__"}
