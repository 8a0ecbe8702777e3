"""The report: read from a run's folder, told honestly, drawn without a network."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from opera_client.wire import Message, SegmentResult
from opera_trainer.artefacts import Estimate, LogEntry, Rollout, read_rows, write_json, write_rows
from opera_trainer.config import RunConfig, load, packaged
from opera_trainer.evaluation.metrics import measure
from opera_trainer.report.curves import charts, smooth
from opera_trainer.report.gathered import Report, gather
from opera_trainer.report.goals import goals
from opera_trainer.report.page import page
from opera_trainer.settings.tasks import TasksSettings
from opera_trainer.stage import Done
from opera_trainer.synthesis.statistics import Comparison, Statistics, Throughput, plain, sift
from opera_trainer.tasks.stage import collected

WORDS = '<script>alert("x")</script>'


def rollout(task: str, right: bool, stage_bonus: float, *, mode: str = "sampled", sample: int = 0) -> Rollout:
    lp = -0.5 + 0.4 * right + stage_bonus
    segment = SegmentResult(
        index=0,
        start=3,
        end=9,
        text=f"Wait, {WORDS}\n\n",
        reflective=True,
        mean_logprob=lp,
        gain=0.1,
        credited=right,
    )
    return Rollout(
        task_id=task, tier="standard", mode=mode, sample=sample, prompt=[Message(role="user", content=f"{task}?")],
        reference="So.", response=f"<think>\nWait, {WORDS}\n\n</think>\n\nBecause {WORDS}", tokens=12, right=right,
        reward=lp, mean_logprob=lp, initial_mean_logprob=-0.6, segments=[segment],
    )  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> tuple[RunConfig, dict[str, Path]]:
    """A folder as the stages leave it: 40 tasks, half of the samples right at first, all in the end."""
    config = load(packaged("demo"), ["tasks.test=5", "tasks.synthesis=4", "tasks.train=5"])
    names = ["tasks", "synthesize", "sft", "grpo", "evaluate-base", "evaluate-sft", "evaluate-grpo"]
    folders = {name: tmp_path / name for name in names}
    for folder in folders.values():
        folder.mkdir()
        write_json(folder / "done.json", Done(fingerprint="f", seconds=2.0, outputs={}))
    _, card = collected(config.tasks, 0, "demo", lambda _: (10, 3))
    write_json(folders["tasks"] / "card.json", card)
    _, statistics = sift([], [], config.synthesis.filters, "reference")  # type: ignore[union-attr]
    share = Estimate(value=0.9, low=0.8, high=0.95, count=50)
    statistics = Statistics.model_validate({**statistics.model_dump(), "tasks": 60, "kept": 50, "right": share})
    write_json(folders["synthesize"] / "statistics.json", statistics)
    plainly = plain([], [], 1.0).model_copy(
        update={"right": share.model_copy(update={"value": 0.6}), "responses": 9}
    )
    write_json(
        folders["synthesize"] / "comparison.json", Comparison(tasks=9, criteria=[statistics], plain=plainly)
    )
    write_json(
        folders["synthesize"] / "throughput.json",
        Throughput(
            seconds=10, traces=60, kept=50, sampled_tokens=9, traces_per_second=6, kept_per_hour=18000,
            hours_for_20000=1.1,
        ),
    )  # fmt: skip
    for stage, share_right in (("base", 0.5), ("sft", 0.5), ("grpo", 1.0)):
        rollouts = [
            rollout(f"t{n}", n % 2 == 0 or share_right == 1.0, 0.1 * share_right, mode=mode)
            for n in range(40)
            for mode in ("sampled", "greedy")
        ]
        write_rows(folders[f"evaluate-{stage}"] / "rollouts.jsonl", rollouts)
        write_json(
            folders[f"evaluate-{stage}"] / "evaluation.json",
            {"stage": stage, "model": stage, "metrics": as_json(measure(rollouts, 200))},
        )
    for stage in ("sft", "grpo"):
        log = [LogEntry(step=n, split="train", metrics={"reward": n / 10, "loss": 1 / n}) for n in range(1, 20)]
        write_rows(
            folders[stage] / "log.jsonl", [*log, LogEntry(step=19, split="validation", metrics={"reward": 2})]
        )
    return config, folders


def as_json(metrics: dict[str, dict[str, Estimate]]) -> dict[str, dict[str, object]]:
    return {tier: {name: one.model_dump() for name, one in some.items()} for tier, some in metrics.items()}


def gathered(run: tuple[RunConfig, dict[str, Path]]) -> Report:
    config, folders = run
    return gather(config, folders, folders["tasks"].parent)


def test_gains_are_paired_and_between_neighbours_and_ends(run):
    found = {(one.start, one.end, one.metric): one.change for one in gathered(run).gains}
    assert set(found) == {
        (start, end, metric)
        for start, end in (("base", "sft"), ("sft", "grpo"), ("base", "grpo"))
        for metric in ("accuracy_sampled", "accuracy_greedy")
    }
    change = found["sft", "grpo", "accuracy_sampled"]
    assert change.value == 0.5
    assert 0.3 < change.low < 0.5 < change.high < 0.7
    unchanged = found["base", "sft", "accuracy_sampled"]
    assert unchanged.low < unchanged.value == 0.0 < unchanged.high


def test_goals_are_reached_missed_or_not_measured(run):
    held = {goal.what.partition(":")[0]: goal.held for goal in goals(gathered(run))}
    assert held["cold start"] is True
    assert held["of plain samples, at most 50 % are right"] is False
    assert held["GRPO adds at least 35 points at temperature 1"] is True
    assert held["on the harder tier it adds something for certain"] is None
    assert goals(gathered(run).model_copy(update={"source": "data.jsonl"})) == []


def test_what_was_not_run_is_said(run, tmp_path: Path):
    assert any("train ablate demo" in line for line in gathered(run).not_run)
    write_json(
        tmp_path / "ablation.json",
        {"outcomes": [], "missing": ["paper at seed 0", "paper at seed 2", "ema at seed 1"]},
    )
    lines = gathered(run).not_run
    assert "Ablations: not run are paper at seed 0, 2; ema at seed 1." in lines
    config, folders = run
    without = config.model_copy(update={"synthesis": None, "sft": None})
    left = {name: folder for name, folder in folders.items() if name not in ("synthesize", "sft", "evaluate-sft")}
    report = gather(without, left, tmp_path)
    assert {"The cold start: the configuration leaves it out.", "SFT: the configuration leaves it out."} <= set(
        report.not_run
    )
    assert [one.stage for one in report.evaluations] == ["base", "grpo"]
    assert not any("Measuring" in line for line in report.not_run)
    del left["evaluate-base"]
    assert "Measuring base on held-out tasks." in gather(without, left, tmp_path).not_run
    assert page(report)


class Seen(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.links, self.tags, self._inside = "", [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._inside = tag
        self.links += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside not in ("script", "style"):
            self.text += data


def drawn(text: str, what: str) -> list[dict]:
    found = re.findall(rf'data-draw="{what}">.*?<script type="application/json">(.*?)</script>', text, re.DOTALL)
    return [json.loads(one) for one in found]


def test_the_page_needs_nothing_else_and_shows_texts_as_texts(run):
    text = page(gathered(run))
    seen = Seen()
    seen.feed(text)
    assert seen.links == []
    assert "://" not in text.partition("</head>")[0]
    assert WORDS not in text, "but for what is escaped"
    for part in ("Before and after", "GRPO, step by step", "SFT, step by step", "Cold start", "What was not run"):
        assert part in seen.text
    assert "50.0 % (base) → 50.0 % (sft) → 100.0 % (grpo)" in seen.text
    assert text.count("</script>") == 4, "two with curves, one with responses, one that draws"


def test_responses_are_groups_of_one_member_a_stage(run):
    [found] = drawn(page(gathered(run)), "groups")
    assert found["total"] == 4
    second = found["groups"][1]
    assert second["group_id"] == "t1 (standard)"
    assert second["references"] == ["So."]
    assert second["initial_mean_logprob"] == -0.6
    assert [one["id"] for one in second["members"]] == ["base", "sft", "grpo"]
    assert [one["right"] for one in second["members"]] == [False, False, True]
    assert [one["reward"] for one in second["members"]] == pytest.approx([-0.45, -0.45, 0.0])
    assert (second["lowest"], second["highest"]) == pytest.approx((-0.45, 0.0))
    [segment] = second["members"][2]["segments"]
    assert (segment["gain"], segment["credited"]) == (0.1, True)
    assert segment["text"] == f"Wait, {WORDS}\n\n"
    assert second["members"][0]["response"] == f"<think>\nWait, {WORDS}\n\n</think>\n\nBecause {WORDS}"


def test_curves_are_as_logged_as_running_means_and_on_validation_tasks(run):
    grpo, sft = drawn(page(gathered(run)), "curves")
    assert [one["title"] for one in grpo["charts"]] == ["Reward"]
    assert [one["title"] for one in sft["charts"]] == ["Loss"]
    [reward] = grpo["charts"][0]["quantities"]
    assert reward["logged"][:2] == [[1, 0.1], [2, 0.2]]
    assert reward["smooth"][18] == [19, pytest.approx(1.5)]  # 11 to 19, over 10
    assert reward["validation"] == [[19, 2]]


def test_a_log_without_known_numbers_has_no_charts():
    assert charts("sft", [LogEntry(step=1, split="train", metrics={"other": 1.0})]) == []


def test_the_report_is_json_and_comes_back(run):
    report = gathered(run)
    again = Report.model_validate_json(json.dumps(report.model_dump(mode="json")))
    assert again == report
    assert again.config["seed"] == 0
    assert again.versions["torch"]
    assert report.seconds["grpo"] == 2.0


def test_samples_are_the_first_tasks_with_every_stage(run):
    samples = gathered(run).samples
    assert [next(iter(one.responses.values())).task_id for one in samples] == ["t0", "t1", "t2", "t3"]
    assert list(samples[0].responses) == ["base", "sft", "grpo"]


def test_data_without_checks_have_no_accuracy_and_no_goals(run):
    config, folders = run
    for stage in ("base", "sft", "grpo"):
        folder = folders[f"evaluate-{stage}"]
        rollouts = [
            one.model_copy(update={"right": None}) for one in read_rows(folder / "rollouts.jsonl", Rollout)
        ]
        write_rows(folder / "rollouts.jsonl", rollouts)
        found = {"stage": stage, "model": stage, "metrics": as_json(measure(rollouts, 100))}
        write_json(folder / "evaluation.json", found)
    report = gathered((config.model_copy(update={"tasks": TasksSettings(source="rows.jsonl")}), folders))
    assert report.gains == []
    text = page(report)
    assert "No held-out task has an exact check" in text
    assert "Goals of the project" not in text
    assert {one["right"] for group in drawn(text, "groups")[0]["groups"] for one in group["members"]} == {None}


def test_running_means():
    assert smooth([1, 2, 3, 4], 2) == [1, 1.5, 2.5, 3.5]
