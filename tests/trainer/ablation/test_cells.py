"""Cells become runs that differ in what the cell says, and in nothing else."""

import pytest

from opera_client.errors import BadInput
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
    with pytest.raises(BadInput, match=r"ablation cell bad: grpo\.rolouts: unknown key"):
        list(trials(config, tmp_path))


def test_an_ablation_needs_its_section(tmp_path):
    with pytest.raises(BadInput, match="needs the sections"):
        list(trials(RunConfig(name="a"), tmp_path))


def test_sections_merge_key_by_key():
    assert merged({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 5}, "d": {"e": 6}}) == {
        "a": {"b": 5, "c": 2},
        "d": {"e": 6},
    }
