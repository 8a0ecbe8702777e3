"""What the demo scores: held-out tasks of the little world and the responses the model samples for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opera_client.wire import Group, Message, Trajectory
from opera_service.demo.world import Task, tasks
from opera_service.engines.base import Engine, GenerationRequest
from opera_service.trajectories.tokenizer import Tokenizer

MAX_TOKENS = 200
NAMES = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Rollout:
    """One task and the responses to it."""

    task: Task
    group: Group
    """As it goes to the service: ids are scored, text is shown."""

    def is_right(self, place: int) -> bool:
        """Tell whether a response is right by the world's exact check; no reward sees this."""
        return self.task.is_right(self.group.trajectories[place].response or "")


def held_out(standard: int, harder: int, seed: int) -> list[Task]:
    """Return tasks the model never trained on; the harder ones are longer than any it trained on."""
    return [*tasks("test", standard, seed=seed), *tasks("test", harder, seed=seed, tier="harder")]


async def sample(
    engine: Engine, tokenizer: Tokenizer, asked: Sequence[Task], *, count: int, seed: int
) -> list[Rollout]:
    """Sample `count` responses to each task at temperature 1; the same seed gives the same responses."""
    messages = [Message(role="user", content=task.question) for task in asked]
    stop = () if tokenizer.eos_id is None else (tokenizer.eos_id,)
    requests = [
        GenerationRequest(
            tokenizer.chat([message.model_dump()]),
            n=count,
            max_tokens=MAX_TOKENS,
            seed=seed + number,
            stop_ids=stop,
        )
        for number, message in enumerate(messages)
    ]
    written = await engine.generate(requests)
    return [
        Rollout(
            task,
            Group(
                group_id=f"question {number}",
                prompt=[message],
                reference=task.reference,
                trajectories=[
                    Trajectory(
                        id=name,
                        response=tokenizer.decode(one.token_ids, skip_special=True),
                        response_token_ids=[int(token) for token in one.token_ids],
                    )
                    for name, one in zip(NAMES, generations, strict=False)
                ],
            ),
        )
        for number, (task, message, generations) in enumerate(zip(asked, messages, written, strict=True), start=1)
    ]
