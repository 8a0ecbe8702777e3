"""Before GRPO: what cannot be learnt from is refused with the way out; the rest goes on and leaves its groups."""

import json

import pytest

from opera_client.errors import BadInput
from opera_service.check.samples import read
from opera_trainer.config import RunConfig
from opera_trainer.fitness import stage as fitness
from opera_trainer.stage import run_stages
from opera_trainer.tasks import stage as tasks

TOY = {"reward": {"name": "opera", "preset": "hardened-1"}, "generations": 4}


def run(tmp_path, said, *, grpo, **look):
    config = RunConfig.model_validate(
        {
            "name": "test",
            "threads": 1,
            "tasks": {"synthesis": 0, "train": 4, "validation": 0, "test": 0},
            "synthesis": None,
            "sft": None,
            "grpo": {**TOY, **grpo},
            "fitness": {"groups": 3, **look},
        }
    )
    return run_stages([tasks.stage(config), fitness.stage(config)], config, tmp_path, said.append)


@pytest.mark.slow  # samples and checks for real
def test_a_policy_whose_thoughts_are_cut_off_is_refused(tmp_path):
    said: list[str] = []
    with pytest.raises(BadInput, match="responses that fail the format") as refused:
        run(tmp_path, said, grpo={"max_completion_length": 4})
    assert "think.mode" in str(refused.value)
    assert "fitness.refuse=false" in str(refused.value)
    folders = run(tmp_path, said, grpo={"max_completion_length": 4}, refuse=False)
    assert json.loads((folders["fitness"] / "findings.json").read_text())["verdict"] == "unfit"


@pytest.mark.slow  # the same
def test_a_policy_that_can_learn_goes_on_and_leaves_its_groups_to_the_check(tmp_path):
    said: list[str] = []
    folders = run(tmp_path, said, grpo={"max_completion_length": 110})
    found = json.loads((folders["fitness"] / "findings.json").read_text())
    informative = next(one for one in found["findings"] if one["name"] == "groups with information")
    assert informative["value"] == 1.0
    assert (folders["fitness"] / "check.html").read_text().startswith("<!doctype html>")
    groups = read(folders["fitness"] / "groups.jsonl", 10)
    assert len(groups) == 3
    assert [len(one.group.trajectories) for one in groups] == [4, 4, 4]


@pytest.mark.slow  # samples and checks for real
def test_answers_that_were_cut_off_are_said(tmp_path):
    said: list[str] = []
    plain = {"config": {"think": {"mode": "none"}}, "preset": "hardened"}
    folders = run(tmp_path, said, grpo={"max_completion_length": 3, "reward": plain}, refuse=False)
    assert any("responses that were cut off" in line and "more tokens" in line for line in said)
    (first, *_) = read(folders["fitness"] / "groups.jsonl", 10)
    assert first.cut_off == [True] * 4
