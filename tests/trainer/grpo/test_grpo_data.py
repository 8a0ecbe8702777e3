"""What GRPO and its reward functions get to see of a task."""

import json

from opera_client.wire import Message
from opera_trainer.artefacts import Task
from opera_trainer.grpo.data import rows
from opera_trainer.grpo.watch import Watch


class Words:
    """A tokenizer of words."""

    def apply_chat_template(self, messages, **_):
        return {"input_ids": list(range(sum(len(one["content"].split()) for one in messages)))}


def task(number, check=None):
    return Task(
        id=str(number), prompt=[Message(role="user", content=f"Why {number}?")], reference="First.",
        second_reference="HELD OUT", check=check,
    )  # fmt: skip


def test_no_column_holds_the_second_reference():
    found, dropped = rows([task(1), task(2, check="exact")], Words(), 10)
    assert dropped == 0
    assert "HELD OUT" not in json.dumps(found)
    assert [row["reference"] for row in found] == ["First.", "First."]


def test_what_is_logged_beside_the_reward_reads_the_column():
    found, _ = rows([task(2, check="exact")], Words(), 10)
    logged = {}
    Watch()(["<think>So.</think>First."], [found[0]["task"]], logged.__setitem__)
    assert logged["watched/right"] == 1.0


def test_too_long_prompts_are_counted():
    assert rows([task(1)], Words(), 1) == ([], 1)
