"""Checkpoint folders as vLLM takes them: which tensors of which shapes, compared with those that serve.

Knows safetensors headers; knows no vLLM and no model.
"""

from __future__ import annotations

from pathlib import Path

from opera_client.errors import InvalidWeights
from opera_service.engines.checkpoint import content_hash, read_headers, tensors_by_name

Shapes = dict[str, tuple[int, ...]]


def tensor_shapes(source: Path) -> Shapes:
    """Return name -> shape of every tensor, from the files' headers. Raises InvalidWeights for a broken file."""
    if not source.is_dir():
        raise InvalidWeights(f"{source.name} is not a folder; vLLM loads a folder with *.safetensors files")
    return {name: tensor.shape for name, tensor in tensors_by_name(read_headers(source)).items()}


def must_match(new: Shapes, served: Shapes) -> None:
    """Raise InvalidWeights unless `new` has the tensors of `served`, shape by shape."""
    for name in sorted(served.keys() | new.keys()):
        if name not in new:
            raise InvalidWeights(f"the new weights lack the tensor {name}")
        if name not in served:
            raise InvalidWeights(f"the new weights have a tensor {name} that the model lacks")
        if new[name] != served[name]:
            raise InvalidWeights(f"{name} has shape {list(new[name])}, the model has {list(served[name])}")


def describe(model: Path) -> tuple[str, Shapes | None]:
    """Return content hash and shapes of a model folder; `unknown` and None for a hub id or other formats."""
    if not model.is_dir() or not any(model.glob("*.safetensors")):
        return "unknown", None
    return content_hash(model), tensor_shapes(model)
