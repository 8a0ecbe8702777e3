"""Which traces are kept: every filter drops what it is for, and only that."""

from __future__ import annotations

import pytest

from opera_trainer.settings.synthesis import FilterSettings
from opera_trainer.synthesis.filters import dropped, idle, repetition, trace_of
from opera_trainer.synthesis.search import Found
from opera_trainer.synthesis.statistics import sift

from .scripted import TASK

FILTERS = FilterSettings(min_gain=0.05, min_logprob=-0.2, max_idle=0.5, max_repetition=0.3)
GOOD = Found(
    task_id="t", paragraphs=["Ana took 3, 12 minus 3 is 9.", "Wait, that is right."], reflections=1, end="closed",
    answer="The shop now has 9 pears.", answered=True, prices=[-0.5, -0.1, -0.05], steps=[],
)  # fmt: skip
WRONG = GOOD.model_copy(update={"answer": "The shop now has 8 pears."})


def reason(found: Found, filters: FilterSettings = FILTERS) -> str | None:
    return dropped(trace_of(TASK, found), found, filters)


def test_a_good_trace_is_kept_and_says_what_sft_learns():
    assert reason(GOOD) is None
    trace = trace_of(TASK, GOOD)
    assert trace.response == (
        "<think>\nAna took 3, 12 minus 3 is 9.\n\nWait, that is right.\n\n</think>\n\nThe shop now has 9 pears."
    )
    assert (trace.gain, trace.right) == (0.45, True)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"paragraphs": [], "prices": [-0.1]}, "empty"),
        ({"answer": ""}, "empty"),
        ({"answered": False}, "answer_cut"),
        ({"prices": [-0.08, -0.1, -0.05]}, "gain"),
        ({"prices": [-0.5, -0.4, -0.3]}, "logprob"),
        ({"paragraphs": ["a", "b", "c", "d"], "prices": [-0.5, -0.1, -0.1, -0.2, -0.15]}, None),
        ({"paragraphs": ["a", "b", "c", "d"], "prices": [-0.5, -0.1, -0.1, -0.15, -0.15]}, "idle"),
        (
            {"paragraphs": ["one two three four five six seven"] * 3, "prices": [-0.5, -0.1, -0.05, -0.04]},
            "repetition",
        ),
    ],
)
def test_each_filter(change: dict, why: str | None):
    assert reason(GOOD.model_copy(update=change)) == why


def test_the_exact_check_drops_only_where_it_is_asked_to():
    assert reason(WRONG) is None
    assert reason(WRONG, FILTERS.model_copy(update={"check": True})) == "check"
    unchecked = TASK.model_copy(update={"check": None})
    assert dropped(trace_of(unchecked, WRONG), WRONG, FILTERS.model_copy(update={"check": True})) is None


def test_filters_can_be_switched_off():
    off = FilterSettings(min_gain=None, min_logprob=None, max_idle=None, max_repetition=None)
    assert reason(GOOD.model_copy(update={"prices": [-0.1, -2.0, -3.0]}), off) is None


def test_idle_and_repetition():
    assert idle(GOOD) == 0.0
    assert idle(GOOD.model_copy(update={"prices": [-0.1, -0.1, -0.05]})) == 0.5
    assert repetition("a b c") == 0.0
    assert repetition("a b c d e f " * 2) == pytest.approx(1 / 7), "of 7 six-grams one is a second"


def test_statistics_count_everything():
    tasks = [TASK.model_copy(update={"id": f"world/{n}"}) for n in range(4)]
    results = [GOOD, WRONG, GOOD.model_copy(update={"answered": False})]
    results = [one.model_copy(update={"task_id": task.id}) for one, task in zip(results, tasks, strict=False)]
    from opera_client.wire import ErrorDetail

    kept, found = sift(tasks, [*results, ErrorDetail(code="context_too_long", message="m")], FILTERS, "reference")
    assert [trace.task_id for trace in kept] == ["world/0", "world/1"]
    assert (found.tasks, found.failed, found.finished, found.kept) == (4, 1, 3, 2)
    assert found.dropped == {"answer_cut": 1}
    assert found.right.value == 0.5
    assert found.right_before_filters.value == pytest.approx(2 / 3)
    assert found.sound.value == 0.5, "the thought ends on 9; one answer is 8"
    assert (found.reflective, found.paragraphs, found.ends) == (1.0, 2.0, {"closed": 3})


def test_a_thought_must_explain_its_share_of_the_reference():
    filters = FilterSettings(min_gain=None, min_explained=0.5)
    assert reason(GOOD, filters) is None  # from -0.5 to -0.05
    assert reason(GOOD.model_copy(update={"prices": [-0.5, -0.3, -0.26]}), filters) == "explained"
    assert reason(GOOD.model_copy(update={"prices": [-5.0, -4.0, -2.5]}), filters) is None
