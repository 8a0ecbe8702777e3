"""Tasks, cold start and evaluation of the base as stages of a run, on a real service with the embedded model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from opera_client.errors import BadInput, OperaError
from opera_trainer.artefacts import Evaluation, Rollout, Task, Trace, read_json, read_rows
from opera_trainer.config import RunConfig, validated
from opera_trainer.evaluation import stage as evaluation
from opera_trainer.models import base
from opera_trainer.service import serving
from opera_trainer.stage import run_stages
from opera_trainer.synthesis import stage as synthesis
from opera_trainer.synthesis.search import Step
from opera_trainer.synthesis.statistics import Comparison, Statistics, Throughput
from opera_trainer.tasks import stage as tasks

SECTIONS = {
    "tasks": {"synthesis": 8, "train": 2, "validation": 2, "test": 3},
    "synthesis": {"batch": 3, "compare": 2, "parquet": True, "filters": {"min_gain": None, "max_idle": None}},
    "evaluation": {"samples": 2, "batch": 4, "resamples": 100},
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    config = validated({"name": "test", "threads": 1}, "test")
    with serving(config, base("demo")) as found:
        yield found


def config_of(url: str, **more) -> RunConfig:
    return validated({"name": "test", "service": {"url": url}, **SECTIONS, **more}, "test")


def run(config: RunConfig, out: Path, say: Callable[[str], None] = lambda _: None, stages=None) -> dict[str, Path]:
    return run_stages(stages or [tasks.stage(config), synthesis.stage(config)], config, out, say)


@pytest.fixture(scope="module")
def whole(url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(config_of(url), tmp_path_factory.mktemp("whole"))["synthesize"]


def files(folder: Path) -> dict[str, bytes]:
    timed = ("done.json", "started.json", "throughput.json")
    return {path.name: path.read_bytes() for path in folder.glob("*.*") if path.name not in timed}


def test_what_the_cold_start_leaves(whole: Path):
    traces = list(read_rows(whole / "traces.jsonl", Trace))
    statistics = read_json(whole / "statistics.json", Statistics)
    assert statistics.tasks == statistics.finished == 8
    assert statistics.kept == len(traces) > 0
    assert statistics.kept + sum(statistics.dropped.values()) == 8
    for trace in traces:
        assert trace.response == f"<think>\n{trace.thought}</think>\n\n{trace.answer}"
        assert trace.right is (trace.answer == trace.reference)
    steps = [one.model_dump(mode="json") for one in read_rows(whole / "candidates.jsonl", Step)]
    assert all(len(step["candidates"]) == 4 for step in steps)
    assert len({step["task_id"] for step in steps}) == 8
    compared = read_json(whole / "comparison.json", Comparison)
    assert [one.criterion for one in compared.criteria] == ["step", "reference", "paper"]
    assert compared.plain.responses == 8
    cost = read_json(whole / "throughput.json", Throughput)
    assert cost.traces == 8
    assert cost.traces_per_second == pytest.approx(8 / cost.seconds, rel=0.01)
    import pyarrow.parquet as pq

    assert pq.read_table(whole / "traces.parquet").column("response").to_pylist() == [
        one.response for one in traces
    ]


@pytest.mark.parametrize("when", [pytest.param("reference: 6 of 8", marks=pytest.mark.slow), "step: 2 of 2"])
def test_ctrl_c_and_the_same_command_again_is_as_if_nothing_had_been(
    url: str, whole: Path, tmp_path: Path, when: str
):
    def interrupting(line: str) -> None:
        if line.strip() == when:
            raise KeyboardInterrupt

    config = config_of(url)
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path, interrupting)
    said: list[str] = []
    resumed = run(config, tmp_path, said.append)["synthesize"]
    assert files(resumed) == files(whole)
    assert when not in map(str.strip, said), "what was done is not done again"


def test_a_service_that_is_gone_is_one_line(tmp_path: Path):
    config = config_of("", service={"url": "http://127.0.0.1:9", "timeout_s": 2})
    with pytest.raises(OperaError, match=r"127\.0\.0\.1:9"):
        run(config, tmp_path)
    assert len(list(read_rows(tmp_path / "tasks" / "train.jsonl", Task))) == 2, "the stage before is kept"


def test_broken_data_ends_before_anything_is_written(url: str, tmp_path: Path):
    data = tmp_path / "data.jsonl"
    data.write_text('{"prompt": "Why?", "reference": "So."}\n{"prompt": "Why not?"}\n')
    config = config_of(url, tasks={"source": str(data)})
    with pytest.raises(BadInput, match=r"data\.jsonl, line 2: reference: is missing"):
        run(config, tmp_path / "out")


def test_the_base_is_measured_and_an_interruption_changes_nothing(url: str, tmp_path: Path):
    config = config_of(url)

    def stages():
        return [tasks.stage(config), evaluation.stage(config, "base")]

    def interrupting(line: str) -> None:
        if "answered 4 of 6" in line:
            raise KeyboardInterrupt

    whole = run(config, tmp_path / "a", stages=stages())["evaluate-base"]
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "b", interrupting, stages())
    resumed = run(config, tmp_path / "b", stages=stages())["evaluate-base"]
    assert files(resumed) == files(whole)
    rollouts = list(read_rows(whole / "rollouts.jsonl", Rollout))
    assert len(rollouts) == 6 * 3
    assert {one.tier for one in rollouts} == {"standard", "harder"}
    assert all(one.reward is None for one in rollouts if one.mode == "greedy")
    assert any(one.segments for one in rollouts)
    found = read_json(whole / "evaluation.json", Evaluation).metrics["standard"]
    rights = [one.right for one in rollouts if one.tier == "standard" and one.mode == "sampled"]
    assert found["accuracy_sampled"].value == pytest.approx(sum(rights) / len(rights))
    assert found["accuracy_greedy"].count == 3
    assert found["pass_at_2"].value >= found["accuracy_sampled"].value


def test_a_search_that_keeps_nothing_ends_early_with_its_reasons(url: str, tmp_path: Path):
    hopeless = {"filters": {"min_gain": 50.0}, "give_up_after": 3, "batch": 3, "compare": 0}
    said: list[str] = []
    with pytest.raises(BadInput, match=r"no trace of 3 tasks is kept: .*dropped: .*gain.*synthesis\.filters"):
        run(config_of(url, synthesis=hopeless), tmp_path, said.append)
    assert not any("6 of 8" in line for line in said)
