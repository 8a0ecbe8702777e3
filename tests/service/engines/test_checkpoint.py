"""Headers of safetensors files: what is whole is described, what is broken is named, nothing else is read."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from opera_client.errors import InvalidWeights
from opera_service.engines.checkpoint import (
    content_hash,
    read_exactly,
    read_headers,
    tensors_by_name,
    weight_files,
)

GOOD = save({"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(4, np.int64)})


def raw(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(begin: int, end: int, shape: list, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_every_tensor_is_where_the_header_says(tmp_path: Path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(GOOD)
    (file,) = read_headers(path)
    found = tensors_by_name([file])
    assert {name: (one.dtype, one.shape) for name, one in found.items()} == {
        "a": ("F32", (2, 3)),
        "b": ("I64", (4,)),
    }
    with path.open("rb") as opened:
        opened.seek(found["a"].begin)
        buffer = bytearray(found["a"].size)
        read_exactly(opened, memoryview(buffer), found["a"])
    assert np.frombuffer(buffer, np.float32).tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (raw({"t": entry(0, 4, [1]), "u": entry(8, 12, [1])}, b"x" * 12), "tensor 'u' .* leave a hole"),
        (raw({"t": entry(0, 8, [2]), "u": entry(4, 8, [1])}, b"x" * 8), "tensor 'u' .* overlap"),
        (raw({"t": entry(4, 8, [1])}, b"x" * 8), "tensor 't' .* leave a hole"),
        (raw({"t": entry(0, 4, [2])}, b"x" * 4), r"tensor 't' of shape \[2\] and dtype F32 has 4 bytes"),
        (raw({"t": entry(0, 4, [1], "Q4")}, b"x" * 4), "tensor 't' has dtype 'Q4'"),
        (raw({"t": entry(0, 4, [-1])}, b"x" * 4), "describes tensor 't' wrongly"),
        (raw({"t": entry(0, 4, [True])}, b"x" * 4), "describes tensor 't' wrongly"),
        (raw({"t": entry(0, 4, ["1"])}, b"x" * 4), "describes tensor 't' wrongly"),
        (raw({"t": {"dtype": "F32"}}), "describes tensor 't' wrongly"),
        (raw({"t": 3}), "describes tensor 't' wrongly"),
        (raw({"t": entry(0, 2**62, [2**60])}), "cut short inside tensor 't'"),
        (raw({"t": {**entry(0, 4, [1]), "dtype": ["I64"]}}, b"x" * 4), "describes tensor 't' wrongly"),
        (raw({"t": {**entry(0, 4, [1]), "dtype": {"F32": 1}}}, b"x" * 4), "describes tensor 't' wrongly"),
        (raw({"t": {**entry(0, 4, [1]), "data_offsets": 8}}, b"x" * 4), "describes tensor 't' wrongly"),
        (raw({"t": {**entry(0, 4, [1]), "data_offsets": [0, 2, 4]}}, b"x" * 4), "describes tensor 't' wrongly"),
        (raw({"t": {**entry(0, 4, [1]), "shape": {"1": 1}}}, b"x" * 4), "describes tensor 't' wrongly"),
        (raw({"t": entry(0, 4, [1] * 65)}, b"x" * 4), "describes tensor 't' wrongly"),
        (raw({"t": entry(0, 4, [10**300])}, b"x" * 4), "describes tensor 't' wrongly"),
        (raw({"t" * 600: entry(0, 4, [1])}, b"x" * 4), "name of 600 characters"),
        (raw(b'{"t":{},"t":{}}'), "a key twice"),
        (raw(b'{"t":{"dtype":"F32","dtype":"I64"}}'), "a key twice"),
        (raw(b"[" * 100_000), "header is not JSON"),
        (raw([]), "header is not an object"),
        (raw(b"\xff\xff"), "header is not JSON"),
    ],
)
def test_a_broken_header_names_the_tensor(tmp_path: Path, content: bytes, said: str):
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(InvalidWeights, match=said):
        read_headers(tmp_path)


@given(st.integers(0, len(GOOD) - 1))
def test_every_cut_is_noticed(tmp_path_factory: pytest.TempPathFactory, length: int):
    path = tmp_path_factory.mktemp("cut") / "w.safetensors"
    path.write_bytes(GOOD[:length])
    with pytest.raises(InvalidWeights, match="cut short"):
        read_headers(path)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    path = tmp_path_factory.mktemp("any") / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(InvalidWeights):
        read_headers(path)


def test_the_same_tensor_in_two_files(tmp_path: Path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.safetensors").write_bytes(GOOD)
    with pytest.raises(InvalidWeights, match=r"'[ab]' is in one\.safetensors and two\.safetensors"):
        read_headers(tmp_path)


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"a":' * 50_000, "cannot be read"),
        ('{"weight_map": {"a": "w.safetensors"}, "weight_map": {}}', "cannot be read"),
        ('{"weight_map": {"a": ["w.safetensors"]}}', "cannot be read"),
        (" " * (9 * 2**20), "is larger than"),
        ('{"weight_map": {}}', "names no files"),
        ('{"weight_map": {"a": "../w.safetensors"}}', "of the same folder"),
        ('{"weight_map": {"a": "/etc/w.safetensors"}}', "of the same folder"),
        ('{"weight_map": {"a": "w.bin"}}', "of the same folder"),
        ('{"weight_map": {"a": 3}}', "of the same folder"),
        ('{"weight_map": {"a": "gone.safetensors"}}', "is missing"),
    ],
)
def test_an_index_names_files_of_its_own_folder(tmp_path: Path, index: str, said: str):
    folder = tmp_path / "folder"
    folder.mkdir()
    for place in (tmp_path, folder):
        (place / "w.safetensors").write_bytes(GOOD)
        (place / "w.bin").write_bytes(GOOD)
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(InvalidWeights, match=said):
        weight_files(folder)


def test_only_safetensors_are_weights(tmp_path: Path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    os.mkfifo(tmp_path / "pipe.safetensors")
    for source in (tmp_path, tmp_path / "pytorch_model.bin", tmp_path / "gone"):
        with pytest.raises(InvalidWeights, match=r"\.safetensors"):
            weight_files(source)


def test_a_file_that_changes_is_not_what_was_read(tmp_path: Path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(GOOD)
    (file,) = read_headers(path)
    with path.open("rb") as opened:
        file.must_be_unchanged(opened)
    path.write_bytes(GOOD + GOOD)
    with path.open("rb") as opened, pytest.raises(InvalidWeights, match=r"w\.safetensors was changed"):
        file.must_be_unchanged(opened)


def test_a_file_that_shrinks_names_the_tensor(tmp_path: Path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(GOOD)
    (file,) = read_headers(path)
    os.truncate(path, file.tensors[-1].begin + 3)
    last = file.tensors[-1]
    with path.open("rb") as opened:
        opened.seek(last.begin)
        with pytest.raises(InvalidWeights, match=f"inside tensor '{last.name}'"):
            read_exactly(opened, memoryview(bytearray(last.size)), last)


def test_the_hash_is_of_one_file_or_of_the_list_of_them(tmp_path: Path):
    (tmp_path / "a.safetensors").write_bytes(GOOD)
    one = hashlib.sha256(GOOD).hexdigest()
    assert content_hash(tmp_path) == f"sha256:{one}"
    other = save({"c": np.ones(1)})
    (tmp_path / "b.safetensors").write_bytes(other)
    both = hashlib.sha256(f"{one}\n{hashlib.sha256(other).hexdigest()}".encode()).hexdigest()
    assert content_hash(tmp_path) == f"sha256:{both}"
