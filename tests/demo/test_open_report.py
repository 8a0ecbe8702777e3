"""The open-ended demo: every prompt, member and mean is shown, and the reward's limit is said."""

from rich.console import Console

from opera_client import RewardClient
from opera_demo import open_samples
from opera_service.check import samples


def test_the_report_shows_each_member_and_who_earned_what(capsys):
    drawn = open_samples.draw(3, seed=0)
    with RewardClient.in_process(engine="dummy") as client:
        result = client.reward([sample.group for sample in drawn])
    open_samples.report(Console(width=110, highlight=False), drawn, result)
    said = " ".join(capsys.readouterr().out.split())
    for sample in drawn:
        assert " ".join((sample.group.reference or "").split()[:5]) in said
    for quality in ("good", "fair", "misses the point", "copy"):
        assert f"{quality} " in said.partition("Mean reward")[2]
    assert "not whether it is true" in said


def test_the_same_seed_draws_the_same_samples_and_another_draws_others():
    first, again, other = ([sample.group.group_id for sample in open_samples.draw(3, seed)] for seed in (1, 1, 2))
    assert first == again != other


def test_the_graded_samples_are_what_a_check_takes(tmp_path):
    open_samples.write_graded(tmp_path / "graded.jsonl")
    found = samples.read(tmp_path / "graded.jsonl", limit=100)
    assert len(found) == 12
    assert all(len(sample.better) == 3 and sample.best == 0 for sample in found)
