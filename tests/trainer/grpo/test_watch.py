"""What is logged beside the reward, and that it never is one."""

import pytest

from opera_client.wire import Message
from opera_trainer.artefacts import Task
from opera_trainer.grpo.watch import Watch

RIGHT = "<think>\nAna sold 3, 12 minus 3 is 9.\n\n9 minus 1 is 8.\n\n</think>\n\nThe shop now has 8 pears."
EMPTY = "<think>\n</think>\n\nThe shop now has 9 pears."


def line(check):
    return Task(
        id="1", prompt=[Message(role="user", content="?")], reference="The shop now has 8 pears.", check=check
    ).model_dump_json()


def logged(texts, check, seconds=None):
    metrics: dict[str, float] = {}
    found = Watch(seconds)(texts, task=[line(check)] * len(texts), log_metric=metrics.__setitem__, prompts=None)
    assert found == [None] * len(texts)
    return metrics


def test_right_answers_and_shapes_are_logged():
    metrics = logged([[{"role": "assistant", "content": RIGHT}], EMPTY], "exact")
    assert metrics["watched/right"] == 0.5
    assert metrics["watched/empty_thought"] == 0.5
    assert metrics["watched/segments"] == 1.0
    assert metrics["watched/characters"] == (len(RIGHT) + len(EMPTY)) / 2


def test_tasks_without_a_check_have_no_accuracy():
    assert "watched/right" not in logged([RIGHT], None)


def test_overlap_with_a_second_reference_is_watched_where_there_is_one():
    pytest.importorskip("sacrebleu")
    metrics = logged([RIGHT, EMPTY], None, {"1": "The shop now has 8 pears."})
    assert 0.5 < metrics["watched/chrf"] < 1.0
    assert "watched/chrf" not in logged([RIGHT], None, {"2": "Another task's."})
