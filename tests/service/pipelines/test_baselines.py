"""Running means by run: apart from each other, bounded, the quietest forgotten first."""

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


def test_runs_and_rules_are_kept_apart():
    book = Baselines()
    assert book.update("a", RULES, [outcome(-1.0)]) == pytest.approx(-1.0)
    assert book.update("b", RULES, [outcome(-3.0)]) == pytest.approx(-3.0)
    assert book.update("a", RULES, [outcome(-2.0)]) == pytest.approx(0.9 * -1.0 + 0.1 * -2.0)
    assert book.update("a", EmaRules(alpha=0.5), [outcome(-2.0)]) == pytest.approx(-2.0)


def test_a_request_without_outcomes_changes_nothing():
    book = Baselines()
    assert book.update("a", RULES, []) is None
    book.update("a", RULES, [outcome(-1.0)])
    assert book.update("a", RULES, []) == pytest.approx(-1.0)


def test_the_run_that_was_quiet_longest_is_forgotten():
    book = Baselines(max_runs=2)
    for run in ("a", "b", "a", "c"):
        book.update(run, RULES, [outcome(-1.0)])
    assert len(book) == 2
    assert book.update("a", RULES, [outcome(-2.0)]) == pytest.approx(-1.1), "a is remembered"
    assert book.update("b", RULES, [outcome(-2.0)]) == pytest.approx(-2.0), "b starts again"
