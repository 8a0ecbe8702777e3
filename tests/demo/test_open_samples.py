"""The written open-ended samples of the demo: four answers to each of twelve shipped tasks, of graded quality."""

import json
from importlib.resources import files

import pytest

LINES = (files("opera_demo") / "open.jsonl").read_text("utf-8").splitlines()
SAMPLES = [json.loads(line) for line in LINES]
TASKS = {
    task["id"]: task
    for kind in {sample["kind"] for sample in SAMPLES}
    for task in map(
        json.loads, (files("opera_trainer.tasks") / "open" / f"{kind}.jsonl").read_text("utf-8").splitlines()
    )
}


def test_there_are_twelve_of_every_kind():
    assert len({sample["id"] for sample in SAMPLES}) == len(SAMPLES) == 12
    assert len({sample["kind"] for sample in SAMPLES}) == 7
    assert {sample["language"] for sample in SAMPLES} == {"en", "zh"}


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample["id"])
def test_a_sample_is_a_shipped_task_with_four_graded_responses(sample):
    task = TASKS[sample["id"]]
    assert all(sample[field] == task[field] for field in ("kind", "language", "prompt", "reference"))
    found = {one["quality"]: one["text"] for one in sample["responses"]}
    assert list(found) == ["good", "medium", "off_topic", "copies_reference"]
    for quality, text in found.items():
        thought, closed, answer = text.removeprefix("<think>\n").partition("\n</think>\n")
        assert text.startswith("<think>\n")
        assert closed
        assert thought.strip()
        assert answer.strip()
        copies = thought == answer == task["reference"]
        assert copies == (quality == "copies_reference")
