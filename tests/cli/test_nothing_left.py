"""An OUT that holds everything: no model is loaded to say so, unless it may be another one."""

import asyncio
import json
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from opera_cli.batch import Job, Tally, work
from opera_cli.outputs import output_for
from opera_cli.score_job import asking, failed
from opera_cli.source import GroupSource, digest
from opera_cli.target import Target
from opera_client.errors import BadInput
from opera_client.files.journal import Journal
from opera_client.files.parquet import to_parquet

SETTINGS = {"reward": "opera", "preset": "hardened", "config": {}, "detail": "none"}
MODEL = {"name": "m", "revision": "sha256:1", "weight_version": "0", "dtype": "float32", "engine": "torch"}
KNOWN = {name: value for name, value in MODEL.items() if name != "dtype"}


class Loaded(Exception):
    """The model was loaded."""


class Unloaded(Target):
    """Knows its model by its files."""

    own: dict[str, str] | None = KNOWN

    def foretold(self):
        return self.own

    @asynccontextmanager
    async def opened(self):
        raise Loaded
        yield


@pytest.fixture
def source(tmp_path: Path) -> GroupSource:
    group = {"prompt": "p", "reference": "r", "trajectories": [{"response": "a"}]}
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(group | {"group_id": name}) + "\n" for name in "ab"))
    return GroupSource(path)


def written(source: GroupSource, out: Path, count: int = 2) -> Path:
    jsonl = out.with_suffix(".jsonl")
    journal = Journal(jsonl, SETTINGS | {"model": MODEL})
    journal.claim()
    for at in range(count):
        journal.append(digest(source[at]), {"trajectories": [{"id": "0", "status": "ok", "reward": 0.5}]})
    journal.close()
    if out != jsonl:
        to_parquet(jsonl, out)
        jsonl.unlink()
    return out


def go_on(
    source: GroupSource, out: Path, *, own: dict[str, str] | None = KNOWN, settings: dict = SETTINGS
) -> Tally:
    target, tally = Unloaded(), Tally("trajectories")
    object.__setattr__(target, "own", own)
    output = output_for(out, out.with_name("in.jsonl"), lambda record: tally.add(record["trajectories"]))
    asyncio.run(work(Job(asking(settings), failed, "score", source, settings), target, output, tally))
    return tally


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_a_whole_out_is_said_to_be_whole_before_the_model_is_loaded(source, tmp_path, name, capsys):
    out = written(source, tmp_path / name)
    assert go_on(source, out).scored == 2
    said = capsys.readouterr().err
    assert said.startswith(f"{out}: nothing left to score\n2 done in ")


@pytest.mark.parametrize("own", [None, KNOWN | {"revision": "sha256:2"}, KNOWN | {"dtype": "bfloat16"}])
def test_what_may_be_another_model_is_loaded_and_asked(source, tmp_path, own):
    with pytest.raises(Loaded):
        go_on(source, written(source, tmp_path / "out.jsonl"), own=own)


def test_an_unfinished_out_needs_the_model(source, tmp_path):
    out = written(source, tmp_path / "out.jsonl", 1)
    with pytest.raises(Loaded):
        go_on(source, out)
    with out.open("a") as file:
        file.write('{"input":"')  # interrupted within its second line
    with pytest.raises(Loaded):
        go_on(source, out)


def test_other_settings_are_refused_all_the_same(source, tmp_path):
    out = written(source, tmp_path / "out.jsonl")
    with pytest.raises(BadInput, match='begun with preset "hardened", not "paper"'):
        go_on(source, out, settings=SETTINGS | {"preset": "paper"})
