"""Changes over tasks: paired, with intervals, and without what length alone is worth."""

import numpy as np
import pytest

from opera_trainer.judges.changes import Scored, change, change_at_equal_length


def answers(rng, *, tasks, longer, better, per_token_fold):
    """Answers whose metric is made of the task, of length, and of `better`."""
    found = {}
    for task in range(tasks):
        own = np.random.default_rng(task).normal()
        some = []
        for _ in range(6):
            tokens = int(np.exp(rng.normal(4 + longer, 0.4)))
            value = own + better + per_token_fold * np.log(1 + tokens) + rng.normal(0, 0.02)
            some.append(Scored(value, tokens))
        found[str(task)] = some
    return found


@pytest.fixture
def both():
    rng = np.random.default_rng(1)
    before = answers(rng, tasks=60, longer=0.0, better=0.0, per_token_fold=0.3)
    return lambda **how: (before, answers(rng, tasks=60, per_token_fold=0.3, **how))


def test_longer_answers_alone_are_no_change_at_equal_length(both):
    before, after = both(longer=0.5, better=0.0)
    plain, equal = change(before, after, 500), change_at_equal_length(before, after, 500)
    assert plain.low > 0.1
    assert equal.low < 0 < equal.high
    assert abs(equal.value) < 0.02


def test_better_answers_of_equal_or_smaller_length_are_a_change(both):
    before, after = both(longer=-0.5, better=0.1)
    plain, equal = change(before, after, 500), change_at_equal_length(before, after, 500)
    assert plain.value < 0
    assert equal.low > 0
    assert equal.value == pytest.approx(0.1, abs=0.03)


def test_the_change_is_the_mean_over_tasks_that_both_answered():
    before = {"a": [Scored(1, 5)], "b": [Scored(2, 5)], "only": [Scored(9, 5)]}
    after = {"a": [Scored(2, 5), Scored(4, 5)], "b": [Scored(2, 5)], "none": []}
    found = change(before, after, 100)
    assert found.value == pytest.approx(1.0)
    assert found.count == 2
    assert change({}, after, 100) is None


def test_where_no_group_varies_in_length_its_worth_is_not_known():
    before, after = {"a": [Scored(1, 5)]}, {"a": [Scored(2, 9)]}
    assert change_at_equal_length(before, after, 100) is None
