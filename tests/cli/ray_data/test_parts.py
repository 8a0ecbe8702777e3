"""Results by chunk: whole or absent, made with one thing only, joined in order."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from opera_cli.ray_data.parts import Parts
from opera_client.errors import BadInput


@pytest.fixture
def parts(tmp_path) -> Parts:
    folder = tmp_path / "out.jsonl.parts"
    folder.mkdir()
    return Parts(folder)


def test_what_is_there_is_done_and_joined_in_the_order_of_the_chunks(parts, tmp_path):
    for index in (2, 0, 1):
        parts.write(index, [{"n": index}, {"n": index + 0.5}])
    parts.write(1, [{"n": 1}, {"n": 1.5}])  # a worker that was thought dead
    assert parts.done(4) == {0, 1, 2}
    assert list(parts.read(1)) == [{"n": 1}, {"n": 1.5}]
    out = tmp_path / "out.jsonl"
    parts.join(3, out)
    assert [json.loads(line)["n"] for line in out.open()] == [0, 0.5, 1, 1.5, 2, 2.5]
    assert not parts.folder.exists()


def test_a_write_that_was_cut_off_leaves_no_result(parts, monkeypatch):
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        parts.write(0, [{"n": 0}])
    monkeypatch.undo()
    assert parts.done(1) == set()
    assert len(list(parts.folder.iterdir())) == 1
    parts.tidy()
    assert list(parts.folder.iterdir()) == []


def test_all_who_write_agree_on_what_they_write_with(parts):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: parts.agree("run", {"model": {"weight_version": "0"}}), range(64)))
    assert [path.name for path in parts.folder.iterdir()] == ["_run.json"]
    with pytest.raises(BadInput, match='begun with weight_version "0", not "1"'):
        parts.agree("run", {"model": {"weight_version": "1"}})
    assert parts.noted("run") == {"model": {"weight_version": "0"}}
    assert parts.noted("plan") is None
