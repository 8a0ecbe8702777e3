"""What workers do, without Ray: their results are those of `opera-reward score`, line by line."""

import json
import random
from dataclasses import asdict

import pytest

from opera_cli.ray_data.chunks import cut
from opera_cli.ray_data.parts import Parts
from opera_cli.ray_data.steps import Scorer, count, gather, look, rows
from opera_cli.score_job import known_to_read_references
from opera_cli.target import Target

SETTINGS = {"reward": "opera", "preset": "hardened", "config": {}, "detail": "segments"}


def group(number: int) -> dict:
    return {
        "prompt": f"What is {number} + 1?\n",
        "reference": f"{number + 1}",
        "trajectories": [
            {"id": "a", "response": f"<think>\nIt is {number}.\n\nWait, one more.\n\n</think>\n\n{number + 1}"},
            {"id": "b", "response": f"<think>\nPerhaps {number}.\n\n</think>\n\n{number}"},
        ],
    }


def write(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def parts(tmp_path) -> Parts:
    (tmp_path / "parts").mkdir()
    return Parts(tmp_path / "parts")


@pytest.fixture
def scorer(parts):
    made: list[Scorer] = []

    def make(**target) -> Scorer:
        made.append(Scorer(SETTINGS, Target(**target), str(parts.folder)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def asked(chunk, first: int = 0) -> dict:
    return {"chunk": json.dumps(asdict(chunk)), "index": chunk.index, "first": first}


def test_a_chunk_is_scored_as_the_command_scores_a_file(cli, tmp_path, parts, scorer):
    source = write(tmp_path / "in.jsonl", [group(n) for n in range(6)] + [{**group(6), "reference": "\u200b"}])
    assert cli("score", source, "-o", tmp_path / "serial.jsonl", "--engine", "dummy").returncode in (0, 1)
    (chunk,) = cut([source])
    worker = scorer(engine="dummy")
    done = worker(asked(chunk))
    assert parts.path(0).read_bytes() == (tmp_path / "serial.jsonl").read_bytes()
    assert (done["index"], done["groups"], done["problem"]) == (0, 7, "")
    # Again, as after a lost worker: the same file. And what is there is counted as it was when it was made.
    assert worker(asked(chunk)) == done
    assert parts.path(0).read_bytes() == (tmp_path / "serial.jsonl").read_bytes()
    assert count({"index": 0}, str(parts.folder)) == done


def test_another_model_than_before_is_a_problem_and_writes_nothing(tmp_path, parts, scorer):
    parts.agree("run", {**SETTINGS, "model": {"name": "dummy", "weight_version": "another"}})
    (chunk,) = cut([write(tmp_path / "in.jsonl", [group(0)])])
    done = scorer(engine="dummy")(asked(chunk))
    assert "was begun with" in done["problem"]
    assert parts.done(1) == set()


def test_an_engine_that_cannot_start_says_why(tmp_path, parts, scorer):
    (chunk,) = cut([write(tmp_path / "in.jsonl", [group(0)])])
    done = scorer(engine="torch", model=str(tmp_path / "none"))(asked(chunk))
    assert str(tmp_path / "none") in done["problem"]
    assert parts.done(1) == set()


def test_lines_are_counted_and_the_first_wrong_one_is_named(tmp_path):
    path = write(tmp_path / "in.jsonl", [group(0), {"prompt": "p", "reference": "r", "response": "x"}])
    (chunk,) = cut([path])
    assert look(asked(chunk)) == {
        "index": 0, "lines": 2, "groups": 1, "flat": 1, "problem": "", "at": 0, "without_reference": 0,
    }  # fmt: skip
    write(path, [group(0), group(1) | {"reference": {"target": 3}}])
    (chunk,) = cut([path])
    found = look(asked(chunk))
    assert found["at"] == 2
    assert "reference" in found["problem"]


def test_the_first_line_without_a_reference_is_found(tmp_path):
    bare = {name: value for name, value in group(1).items() if name != "reference"}
    by_ids = {**bare, "reference_token_ids": [1]}
    path = tmp_path / "in.jsonl"
    path.write_text("".join(f"{line}\n" for line in ("", *map(json.dumps, [group(0), by_ids, bare, bare]))))
    (chunk,) = cut([path])
    assert look(asked(chunk))["without_reference"] == 4


SUM = {"rewards": [{"name": "rent", "weight": 1}, {"name": "logprob", "weight": 1}]}


@pytest.mark.parametrize(
    ("asked_for", "needing"),
    [({}, "opera"), ({"reward": "sum", "config": SUM}, "logprob"), ({"reward": "rent"}, None)],
)
async def test_which_reward_reads_references_is_known_without_a_model(asked_for, needing):
    assert await known_to_read_references({**SETTINGS, **asked_for}) == needing


def test_rows_of_a_group_are_gathered_at_the_place_of_the_first(tmp_path):
    flat = []
    for number in range(5):
        whole = group(number)
        shared = {name: whole[name] for name in ("prompt", "reference")}
        flat += [{**shared, **one} for one in whole["trajectories"]]
    random.Random(3).shuffle(flat)
    flat.insert(4, group(9))
    (chunk,) = cut([write(tmp_path / "in.jsonl", flat)])
    by_key: dict[str, list[dict]] = {}
    for row in rows(asked(chunk, first=100)):
        by_key.setdefault(row["key"], []).append(row)
    batches = [{name: [row[name] for row in each[::-1]] for name in each[0]} for each in by_key.values()]
    found = [{name: column[0] for name, column in gather(batch).items()} for batch in batches]
    assert len(found) == 6
    for each in found:
        line, place = json.loads(each["line"]), each["place"] - 100
        assert each["problem"] == ""
        if "trajectories" in flat[place]:
            assert line == group(9)
        else:
            mine = [row for row in flat if row["prompt"] == line["prompt"] and "response" in row]
            assert line["trajectories"] == [{"id": row["id"], "response": row["response"]} for row in mine]
            assert flat[place] is mine[0]


@pytest.mark.parametrize(("change", "said"), [({"reference": "other"}, "another prompt"), ({"id": "a"}, "twice")])
def test_rows_that_contradict_one_another_are_a_problem(change, said):
    one = {"group_id": "g", "prompt": "p", "reference": "r", "id": "a", "response": "x"}
    other = {**one, "id": "b", "response": "y"} | change
    batch = {"place": [0, 1], "line": [json.dumps(one), json.dumps(other)]}
    assert said in gather(batch)["problem"][0]
