"""Pieces of a data set: together they are the whole, whatever its lines look like, and wherever they are cut."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from opera_cli.ray_data import chunks
from opera_cli.ray_data.chunks import BadLine, Chunk, cut, files_of
from opera_client.errors import BadInput

lines = st.lists(
    st.one_of(st.just(""), st.text(max_size=30).map(lambda text: json.dumps({"a": text}))), max_size=12
)


@given(lines, st.integers(1, 40), st.booleans())
def test_every_line_of_a_file_is_in_exactly_one_piece_in_order(tmp_path_factory, texts, step, ended):
    path = tmp_path_factory.mktemp("pieces") / "in.jsonl"
    whole = "\n".join(texts) + ("\n" if ended else "")
    path.write_text(whole, encoding="utf-8")
    size = len(whole.encode())
    pieces = [Chunk(0, str(path), begin, min(begin + step, size)) for begin in range(0, size, step)]
    found = [line for piece in pieces for _, line in piece.lines()]
    assert found == [json.loads(text) for text in texts if text]
    assert sum(piece.count() for piece in pieces) == len(whole.encode().splitlines())


def test_small_data_is_still_shared_out_and_large_pieces_are_bounded(tmp_path, monkeypatch):
    path = tmp_path / "in.jsonl"
    path.write_text('{"a": 1}\n' * 100_000)
    assert len(cut([path])) == 55  # of 16 KiB each
    monkeypatch.setattr(chunks, "BYTES", (1, 1000))
    assert len(cut([path])) == 900
    found = cut([path, path])
    assert [chunk.index for chunk in found] == list(range(1800))


def test_rows_of_parquet_across_row_groups_and_beside_json_lines(tmp_path):
    rows = [{"n": n, "none": None, "inner": {"x": n, "y": None}} for n in range(100)]
    inner = pa.struct({"x": pa.int64(), "y": pa.string()})
    schema = pa.schema({"n": pa.int64(), "none": pa.string(), "inner": inner})
    parquet.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "b.parquet", row_group_size=30)
    (tmp_path / "a.jsonl").write_text('{"n": -1}\n')
    (tmp_path / "c.jsonl").write_text('{"n": 100}\n')
    (tmp_path / "notes.txt").write_text("not data")
    files = files_of(tmp_path)
    assert [path.name for path in files] == ["a.jsonl", "b.parquet", "c.jsonl"]
    found = cut(files)
    assert [chunk.index for chunk in found] == list(range(len(found)))
    assert {chunk.unit for chunk in found} == {"line", "row"}
    said = [line for chunk in found for _, line in chunk.lines()]
    assert [line["n"] for line in said] == list(range(-1, 101))
    assert said[5] == {"n": 4, "inner": {"x": 4}}
    assert sum(chunk.count() for chunk in found) == 102


def test_a_broken_line_is_named_by_its_number_blank_ones_counted(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"a": 1}\n\n\n{"a": \n')
    with pytest.raises(BadLine) as wrong:
        list(cut([path])[0].lines())
    assert wrong.value.number == 4
    assert "not JSON" in wrong.value.what


@pytest.mark.parametrize(
    ("name", "said"), [("none.jsonl", "does not exist"), ("", "no .jsonl"), ("b.parquet", "Parquet")]
)
def test_what_cannot_be_read_is_said(tmp_path: Path, name: str, said: str):
    if name == "b.parquet":
        (tmp_path / name).write_text("no parquet")
    with pytest.raises(BadInput, match=said):
        cut(files_of(tmp_path / name))


def test_packed_files_are_refused_and_never_left_out(tmp_path):
    (tmp_path / "a.jsonl").write_text("{}\n")
    packed = tmp_path / "b.jsonl.gz"
    packed.write_bytes(b"")
    for source in (tmp_path, packed):
        with pytest.raises(BadInput, match=r"b\.jsonl\.gz is packed.* unpack it first"):
            files_of(source)
