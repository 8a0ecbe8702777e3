"""What the demo scores: held-out tasks of the little world and the responses the model samples for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opera_client.wire import Group, Message, Trajectory
from opera_demo.world import Task
from opera_service.engines.base import Engine, Generation, GenerationRequest
from opera_service.trajectories.tokenizer import Tokenizer

MAX_TOKENS = 200
TEMPERATURE = 1.0
"""Lower, the embedded model hardly ever slips, so that there is nothing to mend."""
DRAWS = 4
"""Responses drawn for each one that is wanted, since repetitions are left out."""


@dataclass(frozen=True)
class Rollout:
    """One task and the responses to it."""

    task: Task
    group: Group
    """As it goes to the service: ids are scored, text is shown."""

    def is_right(self, place: int) -> bool:
        """Tell whether a response is right by the world's exact check; no reward sees this."""
        return self.task.is_right(self.group.trajectories[place].response or "")


async def sample(
    engine: Engine, tokenizer: Tokenizer, asked: Sequence[Task], *, count: int, seed: int
) -> list[Rollout]:
    """Sample at most `count` different responses to each task; the same seed gives the same responses."""
    messages = [Message(role="user", content=task.question) for task in asked]
    stop = tuple(sorted(tokenizer.end_ids))
    requests = [
        GenerationRequest(
            tokenizer.chat([message.model_dump()]),
            n=DRAWS * count,
            max_tokens=MAX_TOKENS,
            temperature=TEMPERATURE,
            seed=seed + number,
            stop_ids=stop,
        )
        for number, message in enumerate(messages)
    ]
    written = await engine.generate(requests)
    return [
        Rollout(task, _group(f"question {number}", task, message, _different(generations)[:count], tokenizer))
        for number, (task, message, generations) in enumerate(zip(asked, messages, written, strict=True), start=1)
    ]


def _different(generations: Sequence[Generation]) -> list[list[int]]:
    return [list(ids) for ids in dict.fromkeys(tuple(map(int, one.token_ids)) for one in generations)]


def _group(name: str, task: Task, message: Message, responses: Sequence[list[int]], tokenizer: Tokenizer) -> Group:
    return Group(
        group_id=name,
        prompt=[message],
        reference=task.reference,
        trajectories=[
            Trajectory(
                id=chr(ord("a") + place),
                response=tokenizer.decode(ids, skip_special=True),
                response_token_ids=ids,
            )
            for place, ids in enumerate(responses)
        ],
    )
