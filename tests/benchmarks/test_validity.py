"""The figures of the validity benchmark, by hand, and the red team's tasks."""

from argparse import Namespace
from types import SimpleNamespace

import numpy as np
import pytest

from opera_service.check.attacks import Material
from red_team_search import search
from red_team_tasks import held_out, open_tasks, questions
from validity import agreement, measures, partial, rho, unhelpful

TRUTH = np.array([0.9, 0.5, 0.45, 0.1])
LENGTH = np.array([100.0, 120.0, 300.0, 110.0])


def test_pairs_that_are_far_apart_are_compared_and_ties_are_a_half():
    assert agreement(np.array([4.0, 3.0, 2.0, 1.0]), TRUTH, LENGTH, like=False) == (5.0, 5.0)
    assert agreement(np.zeros(4), TRUTH, LENGTH, like=False) == (2.5, 5.0)
    assert agreement(np.array([1.0, 2.0, 3.0, 4.0]), TRUTH, LENGTH, like=False) == (0.0, 5.0)


def test_pairs_of_like_length_leave_the_long_one_out():
    assert agreement(np.array([4.0, 3.0, 9.0, 1.0]), TRUTH, LENGTH, like=True) == (3.0, 3.0)


def test_what_was_not_scored_is_the_worst():
    assert agreement(np.array([np.nan, 3.0, 2.0, 1.0]), TRUTH, LENGTH, like=False)[0] == 2.0


def test_length_held_fixed():
    assert rho(np.arange(5.0), np.arange(5.0) ** 3) == pytest.approx(1)
    length = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert partial(length, np.array([2.0, 1.0, 4.0, 3.0, 5.0]), length) == pytest.approx(0, abs=1e-5)


def test_a_file_says_what_can_be_measured():
    judged = {"responses": {"a": "x", "b": "yy"}, "judge": {"a": 1, "b": 0}}
    scored = {"responses": {"a": "x", "b": "yy"}, "scores": {"a": {"relevance": 3}, "b": {"relevance": 1}}}
    assert "agreement, like length" in measures([judged])
    assert measures([scored])["human relevance: rank correlation"](scored, np.array([2.0, 1.0]))[
        0
    ] == pytest.approx(1)


def test_the_tasks_are_whole_and_told_apart():
    tasks = open_tasks()
    assert len(tasks) >= 20
    assert len({task.id for task in tasks}) == len(tasks)
    assert len({task.reference for task in tasks} | {task.second_reference for task in tasks}) == 2 * len(tasks)
    for task in tasks:
        assert [one.grade for one in task.honest] == ["good", "medium", "weak"]
        assert task.twin != task.reference
    assert sum("\u4e00" <= task.prompt[0] <= "\u9fff" for task in tasks) >= 3
    assert all(question.right[0] == question.reference for question in questions())


def test_attacks_that_nothing_was_tuned_on_are_whole():
    cases = held_out()
    assert sum(len(case.attacks) for case in cases) >= 20
    for case in cases:
        assert len({kind for kind, _, _ in case.attacks}) == len(case.attacks)
        assert all(thought and answer not in (case.good.answer, "") for _, thought, answer in case.attacks)


def test_the_share_of_real_answers_that_help_nobody_more():
    class Longest:
        def reward(self, groups, **_):
            lengths = [float(len(one.response)) for one in groups[0].trajectories]
            return SimpleNamespace(rewards=[lengths])

    rows = [{"prompt": "Why?", "reference": "Because.", "responses": {"a": "No.", "b": "word " * 500}}] * 2
    options = Namespace(form="response", config={}, reward="opera", preset="hardened")
    shares = unhelpful(Longest(), rows, options)
    assert len(shares) == 7
    assert shares["a count"] == shares["the prompt echoed"] == 0.5
    assert shares["another prompt's answer"] == 0


def test_the_attacker_keeps_what_is_paid_and_tells_what_beat_the_good_response():
    material = Material("Why?", "because", "a thought", "an answer", "another answer")
    found = search(material, lambda responses: [response.count("Yes.") - 1.5 for response in responses], rounds=3)
    assert found.answer == "Yes. Yes. Yes."
    assert (found.kinds, found.gain) == (("assent",) * 3, 1.5)
    assert found.shortest == ("assent",) * 2
    pieces = found.tried // 3
    assert found.paid_more == 1 + pieces  # once `Yes. Yes.`, then every sentence behind it
    poor = search(material, lambda responses: [-1.0] * len(responses), rounds=3)
    assert (poor.paid_more, poor.shortest, poor.gain) == (0, (), -1.0)
    assert poor.tried == 2 * pieces  # the second round found nothing better
