"""The OUT file cut at any byte, then gone on with, is the OUT file that was never cut."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.budget import examples

from opera_client.errors import BadInput
from opera_client.files.journal import Journal

RUN = {"reward": "opera", "model": {"name": "m", "weight_version": "1"}}
results = st.lists(
    st.dictionaries(st.text(max_size=4), st.text(max_size=8) | st.floats(allow_nan=False, allow_infinity=False)),
    max_size=6,
)


def write(path: Path, wanted: list[dict], stop: int | None = None, run: dict = RUN) -> list[dict]:
    """Go on with `path` until `stop` results are there; return every record that was seen."""
    seen = []
    journal = Journal(path, run)
    journal.claim()
    journal.resume(lambda at: f"digest-{at}" if at < len(wanted) else None, seen.append)
    todo = range(journal.done, len(wanted) if stop is None else stop)
    seen += [journal.append(f"digest-{at}", wanted[at]) for at in todo]
    journal.close()
    return seen


@settings(deadline=None, max_examples=examples(150))
@given(results, st.data())
def test_cut_anywhere_and_gone_on_with_is_the_same_file(wanted, data):
    wanted = [{"number": n, "value": value} for n, value in enumerate(wanted)]
    with tempfile.TemporaryDirectory() as folder:
        whole, torn = Path(folder, "whole"), Path(folder, "torn")
        write(whole, wanted)
        content = whole.read_bytes()
        torn.write_bytes(content[: data.draw(st.integers(0, len(content)))])
        seen = write(torn, wanted)
        assert torn.read_bytes() == content
        assert [record["number"] for record in seen] == list(range(len(wanted)))
        assert [json.loads(line)["value"] for line in content.splitlines()] == [w["value"] for w in wanted]


def test_it_is_cut_again_and_again(tmp_path):
    wanted = [{"n": n} for n in range(5)]
    write(tmp_path / "whole", wanted)
    content = (tmp_path / "whole").read_bytes()
    torn = tmp_path / "torn"
    for cut in range(0, len(content), 7):
        torn.write_bytes(content[:cut])
        write(torn, wanted, stop=max(1, content[:cut].count(b"\n")))
        write(torn, wanted)
        assert torn.read_bytes() == content


@pytest.mark.parametrize(
    ("run", "what"),
    [
        ({**RUN, "reward": "rlpr"}, 'reward "opera", not "rlpr"'),
        ({**RUN, "model": {"name": "m", "weight_version": "2"}}, 'weight_version "1", not "2"'),
        ({"reward": "opera"}, "another version"),
    ],
)
def test_another_run_is_refused_and_the_file_kept(tmp_path, run, what):
    path = tmp_path / "out"
    write(path, [{"n": 0}])
    content = path.read_bytes()
    with pytest.raises(BadInput, match=what):
        write(path, [{"n": 0}], run=run)
    assert path.read_bytes() == content


def test_more_results_than_input_are_refused(tmp_path):
    path = tmp_path / "out"
    write(path, [{"n": 0}, {"n": 1}])
    with pytest.raises(BadInput, match="line 2 answers another input"):
        write(path, [{"n": 0}])


def test_a_broken_line_in_the_middle_is_refused_by_number(tmp_path):
    path = tmp_path / "out"
    write(path, [{"n": 0}, {"n": 1}])
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first[:20] + b"\n" + second)
    with pytest.raises(BadInput, match="line 1 is not a result"):
        write(path, [{"n": 0}, {"n": 1}])


def test_nothing_that_is_not_a_number_is_written(tmp_path):
    with pytest.raises(ValueError, match="Out of range"):
        write(tmp_path / "out", [{"n": float("nan")}])
