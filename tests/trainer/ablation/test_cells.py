"""Cells become runs that differ in what the cell says, and in nothing else."""

import json

import pytest

from opera_client.errors import BadInput
from opera_trainer.ablation import cells
from opera_trainer.ablation.cells import merged, trials
from opera_trainer.config import RunConfig, load, packaged


def test_the_packaged_ablation_covers_what_is_asked(tmp_path):
    every = list(trials(load(packaged("demo")), tmp_path))
    assert {trial.seed for trial in every} == {0, 1, 2}
    by_name = {trial.cell.name: trial.config for trial in every}
    assert set(by_name) >= {
        "hardened", "paper", "likelihood", "mean-logprob", "rank-alone", "reflection-alone", "random-scorer",
        "no-cold-start", "synced",
    }  # fmt: skip
    rewards = {name: config.grpo.reward for name, config in by_name.items()}
    assert rewards["paper"].preset == "paper"
    assert rewards["rank-alone"].config == {"total": {"relative": 1, "reflection": 0}}
    assert rewards["reflection-alone"].config == {"total": {"relative": 0, "reflection": 1}}
    assert by_name["random-scorer"].grpo.scorer.model == "random"
    assert rewards["random-scorer"] == rewards["synced"] == rewards["hardened"]
    assert by_name["synced"].grpo.scorer.follow == "synced"
    assert by_name["no-cold-start"].sft is None


def test_the_most_important_cell_runs_at_all_seeds_first(tmp_path):
    order = [(trial.cell.name, trial.seed) for trial in trials(load(packaged("demo")), tmp_path)]
    assert order[:4] == [("hardened", 0), ("hardened", 1), ("hardened", 2), ("random-scorer", 0)]


def test_cells_and_seeds_can_be_chosen(tmp_path):
    config = load(packaged("demo"))
    found = [(one.cell.name, one.seed) for one in trials(config, tmp_path, [5], ["paper", "synced"])]
    assert found == [("paper", 5), ("synced", 5)]
    with pytest.raises(BadInput, match="no cell papper; there are hardened"):
        list(trials(config, tmp_path, only=["papper"]))


def test_a_cell_with_a_wrong_key_is_named(tmp_path):
    config = load(packaged("demo"), ["ablation.cells=[{name: bad, grpo: {rolouts: 1}}]"])
    with pytest.raises(BadInput, match=r"ablation cell bad: grpo\.rolouts: is no field here; did you mean"):
        list(trials(config, tmp_path))


def test_an_ablation_needs_its_section(tmp_path):
    with pytest.raises(BadInput, match="needs the sections"):
        list(trials(RunConfig(name="a"), tmp_path))


def test_sections_merge_key_by_key():
    assert merged({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 5}, "d": {"e": 6}}) == {
        "a": {"b": 5, "c": 2},
        "d": {"e": 6},
    }


def test_the_control_trains_references_from_the_same_start(tmp_path):
    both = [{"name": "references", "references": {"steps": 7}}, {"name": "grpo"}]
    config = load(packaged("open-smollm2"), [f"ablation.cells={json.dumps(both)}", "references={micro_batch: 2}"])
    control, grpo = list(trials(config, tmp_path, [0]))
    assert (control.trained, grpo.trained) == ("references", "grpo")
    assert (control.config.references.steps, control.config.references.micro_batch) == (7, 2)
    assert grpo.config.references is None
    assert control.start == grpo.start == "evaluate-sft"


def test_all_cells_are_priced_by_the_runs_reward_where_judges_look(tmp_path, monkeypatch):
    ran = []

    def run_stages(stages, config, out, say, given=None):
        ran.extend((one.name, one.shape.get("reward", {}).get("name")) for one in stages)
        return {}

    monkeypatch.setattr(cells, "run_stages", run_stages)
    other = [{"name": "other", "grpo": {"reward": {"name": "logprob"}}}]
    for source, after in (("open", "opera"), ("world", "logprob")):
        ran.clear()
        config = load(packaged("open-smollm2"), [f"ablation.cells={json.dumps(other)}", f"tasks.source={source}"])
        (trial,) = trials(config, tmp_path, [0])
        cells.run(trial, config, print)
        priced = {name: reward for name, reward in ran if name.startswith("evaluate")}
        assert priced == {"evaluate-base": "opera", "evaluate-sft": "opera", "evaluate-grpo": after}
        assert [name for name, _ in ran if name in ("grpo", "judge", "fitness")] == (
            ["grpo", "judge"] if source == "open" else ["grpo"]
        )
