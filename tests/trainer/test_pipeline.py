"""Which stages a configuration has, and what is refused."""

import pytest

from opera_client.errors import BadInput
from opera_trainer.config import RunConfig
from opera_trainer.pipeline import stages


def names(until, **sections):
    return [stage.name for stage in stages(RunConfig(name="test", **sections), until)]


@pytest.mark.parametrize(
    ("until", "expected"),
    [
        ("synthesize", ["tasks", "synthesize"]),
        ("sft", ["tasks", "synthesize", "sft"]),
        ("grpo", ["tasks", "synthesize", "sft", "fitness", "grpo"]),
    ],
)
def test_a_target_needs_what_comes_before(until, expected):
    assert names(until) == expected


def test_without_a_cold_start_grpo_starts_from_the_base():
    assert names("grpo", synthesis=None, sft=None) == ["tasks", "fitness", "grpo"]


def test_a_control_and_one_of_several_processes_are_not_looked_at_first(monkeypatch):
    without = ["tasks", "grpo"]
    assert names("grpo", synthesis=None, sft=None, fitness=None) == without
    assert names("grpo", synthesis=None, sft=None, grpo={"scorer": {"model": "random"}}) == without
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert names("grpo", synthesis=None, sft=None) == without


def test_the_control_learns_references_in_place_of_grpo():
    plain = {"synthesis": None, "sft": None, "references": {"steps": 3}}
    assert names("evaluate", **plain) == ["tasks", "evaluate-base", "references", "evaluate-references"]
    assert "sft" in names("evaluate", references={})


def test_every_stage_comes_after_what_it_needs():
    for sections in ({}, {"synthesis": None, "sft": None}, {"grpo": None}, {"references": {}}):
        seen: set[str] = set()
        for stage in stages(RunConfig(name="test", **sections)):
            assert set(stage.needs) <= seen
            seen.add(stage.name)
        assert "export" in seen


@pytest.mark.parametrize(
    ("until", "sections", "what"),
    [
        ("sft", {"synthesis": None}, "give the section synthesis"),
        ("grpo", {"grpo": None}, "its section grpo is null"),
        ("synthesize", {"synthesis": None, "sft": None}, "its section synthesis is null"),
        ("report", {"synthesis": None, "sft": None, "grpo": None}, "nothing to export"),
    ],
)
def test_what_a_configuration_leaves_out_cannot_be_asked_for(until, sections, what):
    with pytest.raises(BadInput, match=what):
        names(until, **sections)
