"""Running means by run: apart from each other, bounded, the quietest forgotten first."""

from types import SimpleNamespace

import numpy as np
import pytest

from opera_service.pipelines.baselines import Baselines
from opera_service.rewards.base import GroupOutcome, Outcome
from opera_service.rewards.config import EmaRules

RULES = EmaRules()


def outcome(logprob: float) -> GroupOutcome:
    """A group whose every log-prob is `logprob`."""
    tokens = np.array([logprob])
    return GroupOutcome((Outcome(0.0, {}, tokens),), tokens)


def answered(book: Baselines, run: str, *outcomes: GroupOutcome, rules: EmaRules = RULES) -> float | None:
    """What the answer to a run's request says; it is then told to the book."""
    mean = book.after(run, rules, outcomes)
    assert book.after(run, rules, outcomes) == mean, "asking changes nothing"
    book.rewarded(
        SimpleNamespace(
            request=SimpleNamespace(run_id=run),
            result=SimpleNamespace(ema_baseline=mean),
            reward=SimpleNamespace(leading=SimpleNamespace(config=SimpleNamespace(ema=rules))),
        )
    )
    return mean


def test_runs_and_rules_are_kept_apart():
    book = Baselines()
    assert answered(book, "a", outcome(-1.0)) == pytest.approx(-1.0)
    assert answered(book, "b", outcome(-3.0)) == pytest.approx(-3.0)
    assert answered(book, "a", outcome(-2.0)) == pytest.approx(0.9 * -1.0 + 0.1 * -2.0)
    assert answered(book, "a", outcome(-2.0), rules=EmaRules(alpha=0.5)) == pytest.approx(-2.0)


def test_a_request_without_outcomes_changes_nothing():
    book = Baselines()
    assert answered(book, "a") is None
    answered(book, "a", outcome(-1.0))
    assert answered(book, "a") == pytest.approx(-1.0)
    assert answered(book, "a", outcome(-2.0)) == pytest.approx(-1.1)


def test_the_run_that_was_quiet_longest_is_forgotten():
    book = Baselines(max_runs=2)
    for run in ("a", "b", "a", "c"):
        answered(book, run, outcome(-1.0))
    assert len(book) == 2
    assert answered(book, "a", outcome(-2.0)) == pytest.approx(-1.1), "a is remembered"
    assert answered(book, "b", outcome(-2.0)) == pytest.approx(-2.0), "b starts again"
