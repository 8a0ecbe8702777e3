"""The judges over a run's evaluations: the better model wins, length does not, and what is missing is said."""

import json

import pytest

pytest.importorskip("sacrebleu")
pytest.importorskip("rouge_score")

from opera_client.wire import Message
from opera_trainer.artefacts import Rollout, Task, read_json, read_rows, write_rows
from opera_trainer.config import RunConfig
from opera_trainer.judges import stage as judges
from opera_trainer.judges.findings import Judged, Judgement
from opera_trainer.stage import Stage, run_stages

GOOD = "Keep {} cool and dry, and wash it before you eat it."
WORSE = "I am here to help you with anything about it today."


def rollouts(good, reward):
    return [
        Rollout(
            task_id=str(task), tier="standard", mode="sampled", sample=sample,
            prompt=[Message(role="user", content=f"How do I keep fruit {task}?")], reference="Keep it cool.",
            response=(GOOD.format(f"fruit {task}") if good(task, sample) else WORSE) + " It is." * (sample % 2),
            tokens=12 + 2 * (sample % 2), reward=0.5, components={"value": reward + 0.01 * task},
        )
        for task in range(12) for sample in range(4)
    ]  # fmt: skip


def run(tmp_path, *, before, after, seconds=True, **judging):
    config = RunConfig.model_validate(
        {
            "name": "test", "tasks": {"source": "open"}, "sft": None, "synthesis": None,
            "judging": {"embedding": None, "resamples": 200, **judging},
        }
    )  # fmt: skip
    tasks = [
        Task(
            id=str(n), prompt=[Message(role="user", content="?")], reference="Keep it cool.",
            second_reference=f"Keep fruit {n} in a cool and dry place; wash it first." if seconds else None,
        )
        for n in range(12)
    ]  # fmt: skip

    def written(name, rows):
        return Stage(
            f"evaluate-{name}", (), {}, lambda work: write_rows(work.folder / "rollouts.jsonl", rows) and None
        )

    stages = [
        Stage("tasks", (), {}, lambda work: write_rows(work.folder / "test.jsonl", tasks) and None),
        written("base", before), written("grpo", after), judges.stage(config),
    ]  # fmt: skip
    said: list[str] = []
    folders = run_stages(stages, config, tmp_path, said.append)
    return read_json(folders["judge"] / "judged.json", Judged), folders["judge"], said


def test_answers_nearer_to_second_references_are_learned(tmp_path):
    found, folder, said = run(
        tmp_path,
        before=rollouts(lambda task, sample: sample == 2, 0.1),
        after=rollouts(lambda task, sample: True, 0.3),
    )
    assert found.verdict == "learned"
    assert any("Learned" in line for line in said)
    changes = {one.metric: one for one in found.changes}
    assert set(changes) == {"rewarded", "chrf", "rouge_l"}
    assert changes["rewarded"].plain.value == pytest.approx(0.2)
    assert changes["chrf"].equal_length.low > 0
    rows = list(read_rows(folder / "judgements.jsonl", Judgement))
    assert len(rows) == 2 * 12 * 4
    assert "second_reference" not in (folder / "judgements.jsonl").read_text()
    assert (folder / "blind.html").read_text().count("<section") == 12


def test_a_reward_that_rises_alone_is_called_so(tmp_path):
    same = rollouts(lambda task, sample: sample == 2, 0.1)
    found, _, _ = run(tmp_path, before=same, after=rollouts(lambda task, sample: sample == 2, 0.3))
    assert found.verdict == "reward only"


def test_worse_answers_are_called_worse(tmp_path):
    found, _, _ = run(
        tmp_path,
        before=rollouts(lambda task, sample: True, 0.1),
        after=rollouts(lambda task, sample: sample == 2, 0.1),
    )
    assert found.verdict == "worse"


def test_without_second_references_nobody_can_say(tmp_path):
    same = rollouts(lambda task, sample: True, 0.1)
    found, _, _ = run(tmp_path, before=same, after=same, seconds=False)
    assert found.verdict == "not judged"
    assert any("second reference" in note for note in found.notes)


def test_a_missing_encoder_is_a_note_and_no_end(tmp_path):
    same = rollouts(lambda task, sample: True, 0.1)
    found, _, _ = run(tmp_path, before=same, after=same, embedding="/nowhere")
    assert any("cannot be loaded" in note for note in found.notes)
    assert found.verdict == "nothing"


def test_peoples_votes_are_counted_the_next_time(tmp_path):
    same = rollouts(lambda task, sample: sample == 2, 0.1)
    better = rollouts(lambda task, sample: True, 0.1)
    run(tmp_path, before=same, after=better)
    (tmp_path / "votes").mkdir()
    for person in ("a", "b"):
        rows = [{"task": str(n), "key": 1, "choice": "left"} for n in range(12)]
        (tmp_path / "votes" / f"{person}.json").write_text(json.dumps({"votes": rows}))
    found, _, _ = run(tmp_path, before=same, after=better)
    (people,) = found.preferences
    assert (people.judge, people.share.value, people.consistent) == ("people", 1.0, 1.0)
