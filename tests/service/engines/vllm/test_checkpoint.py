"""Weights on disk, judged by their headers."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from opera_client.errors import InvalidWeights
from opera_service.engines.vllm import checkpoint


def write(folder: Path, **tensors: tuple[int, ...]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, shape in tensors.items():
        save_file({name: np.zeros(shape, np.float32)}, folder / f"{name}.safetensors", metadata={"format": "pt"})
    return folder


def test_shapes_come_from_every_file(tmp_path):
    assert checkpoint.tensor_shapes(write(tmp_path, a=(2, 3), b=(4,))) == {"a": (2, 3), "b": (4,)}


@pytest.mark.parametrize(
    ("new", "says"),
    [
        ({"a": (2,)}, "lack the tensor b"),
        ({"a": (2,), "b": (3,), "c": (1,)}, "model lacks"),
        ({"a": (2,), "b": (4,)}, "shape"),
    ],
)
def test_weights_that_do_not_fit(new, says):
    with pytest.raises(InvalidWeights, match=says):
        checkpoint.must_match(new, {"a": (2,), "b": (3,)})
    checkpoint.must_match({"a": (2,), "b": (3,)}, {"a": (2,), "b": (3,)})


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: data[:4], lambda data: b"\xff" * len(data)]
)
def test_broken_files_are_named(tmp_path, damage):
    path = write(tmp_path, a=(8,)) / "a.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InvalidWeights, match=r"a\.safetensors"):
        checkpoint.tensor_shapes(tmp_path)


def test_nothing_there(tmp_path):
    with pytest.raises(InvalidWeights, match="not a folder"):
        checkpoint.tensor_shapes(tmp_path / "nothing")
    with pytest.raises(InvalidWeights, match="no folder that holds any"):
        checkpoint.tensor_shapes(tmp_path)


def test_the_hash_is_of_the_bytes(tmp_path):
    path = write(tmp_path, a=(8,)) / "a.safetensors"
    assert checkpoint.content_hash(tmp_path) == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    write(tmp_path, b=(8,))
    assert checkpoint.content_hash(tmp_path) != "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
