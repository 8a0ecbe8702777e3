"""The open-ended demo: every prompt, member and mean is shown, and the reward's limit is said."""

from rich.console import Console

from opera_client import RewardClient
from opera_demo import open_samples


def test_the_report_shows_each_member_and_who_earned_what(capsys):
    samples = open_samples.draw(3, seed=0)
    with RewardClient.in_process(engine="dummy") as client:
        result = client.reward([sample.group for sample in samples])
    open_samples.report(Console(width=110, highlight=False), samples, result)
    said = " ".join(capsys.readouterr().out.split())
    for sample in samples:
        assert " ".join((sample.group.reference or "").split()[:5]) in said
    for quality in ("good", "fair", "misses the point", "copy"):
        assert f"{quality} " in said.partition("Mean reward")[2]
    assert "not whether it is true" in said


def test_the_same_seed_draws_the_same_samples_and_another_draws_others():
    first, again, other = ([sample.group.group_id for sample in open_samples.draw(3, seed)] for seed in (1, 1, 2))
    assert first == again != other
