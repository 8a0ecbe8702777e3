"""The runner: what is done is skipped, what was interrupted goes on, what changed is made again."""

import errno
from pathlib import Path

import pytest

from opera_client.errors import BadInput
from opera_trainer.config import RunConfig
from opera_trainer.stage import DONE, SCRATCH, Stage, Work, finished, run_stages

CONFIG = RunConfig(name="test")


class Chain:
    """Two stages that count their runs: `first` writes `text`, `second` copies what `first` wrote."""

    def __init__(self, out: Path, text: str = "a") -> None:
        self.out, self.text, self.runs, self.said = out, text, [], []

    def stages(self) -> list[Stage]:
        return [
            Stage("first", (), {"text": self.text}, self._first),
            Stage("second", ("first",), {}, self._second),
        ]

    def run(self) -> dict[str, Path]:
        return run_stages(self.stages(), CONFIG, self.out, self.said.append)

    def _first(self, work: Work) -> None:
        self.runs.append("first")
        (work.folder / "text").write_text(self.text)

    def _second(self, work: Work) -> None:
        self.runs.append("second")
        (work.folder / SCRATCH).mkdir(exist_ok=True)
        (work.folder / SCRATCH / "half").touch()
        (work.folder / "copy").write_text((work.inputs["first"] / "text").read_text())


def test_stages_run_in_order_and_once(tmp_path):
    chain = Chain(tmp_path)
    folders = chain.run()
    assert (folders["second"] / "copy").read_text() == "a"
    assert not (folders["second"] / SCRATCH).exists()
    chain.run()
    assert chain.runs == ["first", "second"]
    assert "done before" in chain.said[-1]


def test_a_fresh_stage_runs_every_time_and_moves_nothing_aside(tmp_path):
    runs = []
    stage = Stage("last", (), {}, lambda work: runs.append(work.folder), fresh=True)
    for _ in range(2):
        run_stages([stage], CONFIG, tmp_path, lambda _: None)
    assert len(runs) == 2
    assert finished(tmp_path / "last") is not None
    assert not (tmp_path / "replaced").exists()


def test_a_changed_shape_runs_again_and_keeps_the_old_folder(tmp_path):
    Chain(tmp_path, "a").run()
    chain = Chain(tmp_path, "b")
    folders = chain.run()
    assert chain.runs == ["first", "second"]
    assert (folders["second"] / "copy").read_text() == "b"
    kept = {path.read_text() for path in (tmp_path / "replaced").glob("*/text")}
    assert kept == {"a"}


def test_changed_outputs_upstream_run_the_rest_again(tmp_path):
    chain = Chain(tmp_path)
    chain.run()
    (tmp_path / "first" / DONE).unlink()
    (tmp_path / "first" / "text").write_text("stale")
    chain.text = "a"
    chain.run()
    assert chain.runs == ["first", "second", "first"]  # the same bytes again: the second stage is still done


def test_an_interrupted_stage_finds_its_own_folder(tmp_path):
    seen = []

    def work(work: Work) -> None:
        seen.append((work.folder / "part").exists())
        (work.folder / "part").touch()
        if len(seen) == 1:
            raise KeyboardInterrupt

    stage = Stage("only", (), {}, work)
    with pytest.raises(KeyboardInterrupt):
        run_stages([stage], CONFIG, tmp_path, lambda _: None)
    assert finished(tmp_path / "only") is None
    run_stages([stage], CONFIG, tmp_path, lambda _: None)
    assert seen == [False, True]


def test_an_interrupted_stage_of_another_shape_starts_afresh(tmp_path):
    def stage(shape: str) -> Stage:
        def work(work: Work) -> None:
            assert not (work.folder / "part").exists()
            (work.folder / "part").touch()
            if shape == "a":
                raise KeyboardInterrupt

        return Stage("only", (), {"shape": shape}, work)

    with pytest.raises(KeyboardInterrupt):
        run_stages([stage("a")], CONFIG, tmp_path, lambda _: None)
    run_stages([stage("b")], CONFIG, tmp_path, lambda _: None)
    assert finished(tmp_path / "only") is not None


def test_a_torn_marker_counts_as_not_done(tmp_path):
    chain = Chain(tmp_path)
    chain.run()
    marker = tmp_path / "second" / DONE
    marker.write_bytes(marker.read_bytes()[:20])
    chain.run()
    assert chain.runs == ["first", "second", "second"]


def test_a_full_disk_is_one_line_that_says_where(tmp_path):
    def work(work: Work) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(work.folder / "model"))

    with pytest.raises(BadInput, match=r"only: No space left on device: .*model; nothing finished is lost"):
        run_stages([Stage("only", (), {}, work)], CONFIG, tmp_path, lambda _: None)


def test_a_missing_input_is_named(tmp_path):
    with pytest.raises(BadInput, match="second needs what first writes"):
        run_stages([Stage("second", ("first",), {}, lambda _: None)], CONFIG, tmp_path, lambda _: None)


def test_a_given_folder_must_be_finished(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    stage = Stage("second", ("first",), {}, lambda _: None)
    with pytest.raises(BadInput, match="not finished"):
        run_stages([stage], CONFIG, tmp_path, lambda _: None, given={"first": tmp_path / "elsewhere"})
