"""What the reward is asked about evaluated responses."""

import asyncio
import json
from types import SimpleNamespace

from opera_client.wire import Message
from opera_trainer.artefacts import Task
from opera_trainer.evaluation.pricing import price
from opera_trainer.evaluation.responses import Response, Responses
from opera_trainer.settings.grpo import RewardSettings


class Service:
    """Keeps what it is asked and answers nothing."""

    asked = ""

    async def reward(self, groups, **_):
        self.asked = json.dumps([group.model_dump() for group in groups])
        return SimpleNamespace(groups=[])


def test_the_second_reference_never_reaches_the_service():
    task = Task(
        id="1", prompt=[Message(role="user", content="Why?")], reference="First.", second_reference="HELD OUT"
    )
    one = Response(text="<think>So.</think>First.", token_ids=[1, 2])
    service = Service()
    rollouts = asyncio.run(
        price(service, [(task, Responses(task_id="1", sampled=[one, one], greedy=one))], RewardSettings())
    )
    assert "First." in service.asked
    assert "HELD OUT" not in service.asked
    assert len(rollouts) == 3
