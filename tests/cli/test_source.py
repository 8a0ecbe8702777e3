"""Input files as groups: flat rows find each other, texts stay on disk, Parquet says the same as JSON Lines."""

import gzip
import json
from collections import defaultdict
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opera_cli.ray_data.chunks import cut
from opera_cli.source import GroupSource, RankSource, digest, items
from opera_client.errors import BadInput
from opera_client.wire import HALF_CHARACTER


def save(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def groups_of(path):
    source = GroupSource(path)
    found = list(items(source, 0))
    source.close()
    return found


rows = st.lists(
    st.fixed_dictionaries(
        {"response": st.text("xyz é\n", min_size=1, max_size=5), "prompt": st.sampled_from(["p", "q", "r"])},
        optional={"group_id": st.sampled_from(["g", "h"])},
    ),
    min_size=1,
    max_size=12,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows)
def test_flat_rows_are_grouped_by_id_else_by_prompt_in_order_of_first_sight(tmp_path, rows):
    # Rows of one id must agree on their prompt.
    rows = [
        row | {"reference": "R"} | ({"prompt": "of " + row["group_id"]} if "group_id" in row else {})
        for row in rows
    ]
    expected = defaultdict(list)
    for row in rows:
        expected[(row.get("group_id"), row["prompt"])].append(row["response"])
    found = groups_of(save(tmp_path / "in.jsonl", rows))
    assert [[t.response for t in g.trajectories] for g in found] == list(expected.values())
    assert [g.prompt for g in found] == [prompt for _, prompt in expected]
    names = [name if name is not None else str(place) for place, (name, _) in enumerate(expected)]
    assert [g.group_id for g in found] == names


def test_flat_and_grouped_lines_may_be_mixed_and_blank_lines_and_bom_do_no_harm(tmp_path):
    path = tmp_path / "in.jsonl"
    group = {"prompt": "p", "reference": "r", "trajectories": [{"response": "a"}]}
    row = {
        "prompt": [{"role": "user", "content": "hi"}],
        "response_token_ids": [1, 2],
        "reference": "r",
        "id": "x",
    }
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(group).encode() + b"\r\n\r\n" + json.dumps(row).encode())
    first, second = groups_of(path)
    assert first.trajectories[0].response == "a"
    assert (second.trajectories[0].id, second.trajectories[0].response_token_ids) == ("x", [1, 2])


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ([{"prompt": "p", "reference": "r", "response": "a"}, {"prompt": "p", "reference": "s", "response": "b"}],
         "line 2: same group as line 1"),
        ([{"group_id": "g", "prompt": "p", "reference": "r", "response": "a"},
          {"group_id": "g", "prompt": "q", "reference": "r", "response": "b"}], "line 2: same group as line 1"),
        ([{"prompt": "p", "reference": "r", "response": "a", "id": "x"}] * 2, "line 2: id 'x' appears twice"),
        ([{"prompt": "p", "reference": "r", "response": "a", "id": "1"},
          {"prompt": "p", "reference": "r", "response": "b"}], "line 2: id '1' appears twice"),
        ([{"prompt": "p", "reference": "r", "response": 1}], r"line 1: .*\(field response\)"),
        ([{"prompt": "p", "reference": "r", "trajectories": [{"response": "a"}, {"response_token_ids": [-1]}]}],
         "trajectories.1.response_token_ids.0"),
    ],
)  # fmt: skip
def test_rows_that_do_not_fit_are_refused_by_line(tmp_path, lines, what):
    with pytest.raises(BadInput, match=what):
        GroupSource(save(tmp_path / "in.jsonl", lines))


def test_unused_columns_of_the_flat_form_are_named(tmp_path, capsys):
    groups_of(save(tmp_path / "in.jsonl", [{"prompt": "p", "reference": "r", "response": "a", "source": "x"}]))
    assert "not used: source" in capsys.readouterr().err


GROUPED = [
    {"group_id": "g", "task": "open", "prompt": "p", "reference": "r",
     "trajectories": [{"id": "a", "response": "x"}, {"id": None, "response": None, "response_token_ids": [1, 2]}]},
    {"group_id": None, "task": "math", "prompt": "é\u2028", "reference": "s", "trajectories": [{"response": "y"}]},
]  # fmt: skip
FLAT = [
    {"prompt": "p", "reference": "r", "response": "x", "group_id": None},
    {"prompt": "q", "reference": "r", "response": "y", "group_id": "7"},
    {"prompt": "p", "reference": "r", "response": "z", "group_id": None},
]


def without_nulls(value):
    if isinstance(value, dict):
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    return [without_nulls(v) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize("lines", [GROUPED, FLAT, FLAT * 300])
def test_parquet_says_the_same_as_json_lines(tmp_path, lines):
    pq.write_table(pa.Table.from_pylist(lines), tmp_path / "in.parquet", row_group_size=100)
    from_parquet = groups_of(tmp_path / "in.parquet")
    from_jsonl = groups_of(save(tmp_path / "in.jsonl", [without_nulls(line) for line in lines]))
    assert list(map(digest, from_parquet)) == list(map(digest, from_jsonl))


def test_what_is_no_parquet_or_cannot_be_json_is_refused(tmp_path):
    (tmp_path / "in.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(BadInput, match="cannot be read as Parquet"):
        GroupSource(tmp_path / "in.parquet")
    pq.write_table(
        pa.Table.from_pylist([{"prompt": b"\xff", "reference": "r", "response": "a"}]), tmp_path / "b.parquet"
    )
    with pytest.raises(BadInput, match="column"):
        GroupSource(tmp_path / "b.parquet")
    pq.write_table(pa.Table.from_pylist([{"prompt": "p", "reference": "r"}]), tmp_path / "c.parquet")
    with pytest.raises(BadInput, match=r"row 1.*response"):
        GroupSource(tmp_path / "c.parquet")


def test_two_columns_of_one_name_are_refused_by_that_name(tmp_path):
    texts = pa.array(["a"])
    file = tmp_path / "in.parquet"
    pq.write_table(pa.table([texts] * 4, names=["prompt", "response", "reference", "response"]), file)
    with pytest.raises(BadInput, match=r"in\.parquet has two columns called 'response'; rename one"):
        GroupSource(file)
    with pytest.raises(BadInput, match="two columns called 'response'"):
        cut([file])
    inner = pa.ListArray.from_arrays([0, 1], pa.StructArray.from_arrays([texts, texts], names=["id", "id"]))
    pq.write_table(pa.table([texts, texts, inner], names=["prompt", "reference", "trajectories"]), file)
    with pytest.raises(BadInput, match=r"two columns called 'trajectories\.\w+\.id'"):
        GroupSource(file)


def test_texts_are_not_held_in_memory(tmp_path):
    import tracemalloc

    path = tmp_path / "in.jsonl"
    with path.open("w") as file:
        for n in range(300):
            row = {"prompt": f"{n} " + "p" * 50_000, "reference": "r", "response": "x" * 50_000}
            file.write(json.dumps(row) + "\n")
    tracemalloc.start()
    source = GroupSource(path)
    total = sum(len(group.trajectories[0].response) for group in items(source, 0))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == 300 * 50_000
    assert peak < 5_000_000 < path.stat().st_size


def test_rank_items_are_checked_and_named(tmp_path):
    line = {"prompt": "p", "candidates": ["a", {"token_ids": [3]}]}
    source = RankSource(save(tmp_path / "in.jsonl", [line, line | {"id": "x"}]))
    assert [source[0].id, source[1].id, len(source)] == ["0", "x", 2]
    with pytest.raises(BadInput, match=r"line 1.*candidates"):
        RankSource(save(tmp_path / "bad.jsonl", [{"prompt": "p", "candidates": []}]))


ROW = {"prompt": "Q", "reference": "R", "response": "<think>a</think>b"}


def test_columns_that_nobody_uses_may_hold_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    flat = [json.dumps({**ROW, "score": float("nan"), "note": None}), json.dumps({**ROW, "score": 1})]
    nested = {
        "prompt": "Q",
        "reference": "R",
        "trajectories": [{"response": "a"}],
        "score": float("inf"),
        "source": {"file": "x"},
    }
    for name, lines in (("flat", flat), ("nested", [json.dumps(nested)])):
        file = tmp_path / f"{name}.jsonl"
        file.write_text("\n".join(lines) + "\n")
        assert len(GroupSource(file)) == 1
        assert "fields that are not used: " in capsys.readouterr().err


def test_the_grades_of_a_check_are_no_obstacle_and_other_fields_of_a_trajectory_are(tmp_path: Path):
    own = {"response": "a", "grade": float("nan"), "finish_reason": "stop"}
    file = save(tmp_path / "in.jsonl", [{"prompt": "Q", "reference": "R", "trajectories": [own]}])
    assert GroupSource(file)[0].trajectories[0].response == "a"
    save(file, [{"prompt": "Q", "reference": "R", "trajectories": [own | {"mask": [1]}]}])
    with pytest.raises(BadInput, match=r"is no field here.*trajectories\.0\.mask"):
        GroupSource(file)


@pytest.mark.parametrize("name", ["prompt", "reference", "response"])
def test_nan_in_a_column_that_is_used_is_told(tmp_path: Path, name: str):
    file = tmp_path / "in.jsonl"
    file.write_text(json.dumps({**ROW, name: float("nan")}) + "\n")
    with pytest.raises(BadInput, match=r"(?i)nan"):
        GroupSource(file)


def test_a_packed_file_is_read_like_the_file(tmp_path: Path):
    plain, packed = tmp_path / "in.jsonl", tmp_path / "in.jsonl.gz"
    plain.write_text("".join(json.dumps({**ROW, "prompt": name}) + "\n" for name in "abc"))
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    one, other = GroupSource(plain), GroupSource(packed)
    assert [one[at] for at in (2, 0, 1)] == [other[at] for at in (2, 0, 1)]
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(BadInput, match="cannot be unpacked"):
        GroupSource(packed)


def test_whole_numbers_are_names_and_answers(tmp_path: Path):
    file = tmp_path / "in.jsonl"
    rows = [{**ROW, "group_id": 7, "id": 1, "reference": 12}, {**ROW, "group_id": "7", "id": 2, "reference": 12}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (found,) = [GroupSource(file)[at] for at in range(len(GroupSource(file)))]
    assert (found.group_id, found.reference, [one.id for one in found.trajectories]) == ("7", "12", ["1", "2"])


def test_half_a_character_stays_with_its_row(tmp_path: Path):
    file = tmp_path / "in.jsonl"
    file.write_text(json.dumps({**ROW, "response": "a \ud83d"}) + "\n" + json.dumps(ROW) + "\n")
    (found,) = [GroupSource(file)[0]]
    assert [HALF_CHARACTER in (one.response or "") for one in found.trajectories] == [True, False]


def test_parquet_columns_that_nobody_uses_may_hold_anything(tmp_path: Path):
    more = {"image": b"\x89PNG", "when": datetime(2026, 1, 2), "many": [b"a"], "reference": ["R", "S"]}
    file = tmp_path / "in.parquet"
    pq.write_table(pa.Table.from_pylist([{**ROW, **more}]), file)
    assert GroupSource(file)[0].reference == ["R", "S"]
    pq.write_table(pa.Table.from_pylist([{**ROW, "response": b"a"}]), file)
    with pytest.raises(BadInput, match="column 'response' is no text"):
        GroupSource(file)
