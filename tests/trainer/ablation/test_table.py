"""The table: means and intervals over seeds against scipy, and what was not run is said."""

import statistics

import pytest
from scipy import stats

from opera_trainer.ablation.table import Outcome, markdown, spread


@pytest.mark.parametrize("values", [[0.1, 0.4], [0.1, 0.2, 0.4], [0.3, 0.1, 0.2, 0.7], [1.0, 2.0, 4.0, 8.0, 9.0]])
def test_intervals_are_students(values):
    found = spread(values)
    low, high = stats.t.interval(0.95, len(values) - 1, statistics.fmean(values), stats.sem(values))
    assert found.half is not None
    assert found.mean - found.half == pytest.approx(low, rel=1e-2)
    assert found.mean + found.half == pytest.approx(high, rel=1e-2)


def test_one_seed_has_no_interval():
    assert str(spread([0.25])) == ".25"
    assert str(spread([1.0])) == "1.00"
    with pytest.raises(ValueError, match="no seed"):
        spread([])


def test_a_row_shows_before_and_after_and_the_rest_is_called_missing():
    one = Outcome(
        cell="paper",
        seed=2,
        before={"standard/accuracy_sampled": 0.5, "standard/accuracy_greedy": 1.0},
        after={"standard/accuracy_sampled": 0.1, "standard/accuracy_greedy": 0.2, "standard/reward_auc": 0.7},
        reward_first=0.2,
        reward_last=0.6,
    )
    page = markdown([one], {"paper": "as released"}, ["hardened at seed 0"])
    assert "| `paper`: as released | 2 | .50 → .10 | -40 | – | 1.00 → .20 | 0.20 → 0.60 | .70 |" in page
    assert "Not run: hardened at seed 0." in page


def test_tasks_without_exact_checks_show_what_the_judges_say():
    def one(cell, seed, change, verdict):
        return Outcome(
            cell=cell, seed=seed, before={"standard/tokens": 80.0}, after={"standard/tokens": 90.0},
            reward_first=0.4, reward_last=0.5, verdict=verdict, changes={"rewarded": 0.2, "chrf": change},
        )  # fmt: skip

    page = markdown(
        [one("a", 0, 0.01, "learned"), one("a", 1, 0.03, "nothing"), one("b", 0, -0.02, "worse")], {}, []
    )
    assert "| cell | seeds | rewarded | chrf | tokens | training reward | verdicts |" in page
    assert "| `a` | 0 1 | +0.200 ± 0.000 | +0.020 ± 0.127 | 80 → 90 | 0.40 → 0.50 | learned, nothing |" in page
    assert "| `b` | 0 | +0.200 | -0.020 | 80 → 90 | 0.40 → 0.50 | worse |" in page


def test_one_seed_shows_its_interval_over_tasks_and_a_control_no_reward():
    one = Outcome(
        cell="references", seed=0, before={"standard/tokens": 80.0}, after={"standard/tokens": 90.0},
        verdict="learned", changes={"chrf": 0.02}, intervals={"chrf": (0.01, 0.03)},
    )  # fmt: skip
    page = markdown([one], {}, [])
    assert "| `references` | 0 | +0.020 (+0.010 to +0.030) | 80 → 90 | – | learned |" in page
