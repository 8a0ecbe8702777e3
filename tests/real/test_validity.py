"""What the default reward pays on real language, on a few tasks of the red team; `make validity` runs them all."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from opera_client import AsyncRewardClient
from opera_service.check.attacks import Material, attacks
from red_team_tasks import open_tasks, questions

pytestmark = pytest.mark.real

TASKS = {task.id: task for task in open_tasks()}
FAMILIES = ("copy in the thought", "junk answer", "draft in the thought")


@pytest.fixture
async def client(smollm2: Path) -> AsyncIterator[AsyncRewardClient]:
    async with AsyncRewardClient.in_process(engine="torch", model=str(smollm2)) as opened:
        yield opened


async def paid(
    client: AsyncRewardClient, prompt: str, reference: str, responses: list[str], **config
) -> list[float]:
    group = {
        "prompt": [{"role": "user", "content": prompt}],
        "reference": reference,
        "trajectories": [{"response": response} for response in responses],
    }
    return (await client.reward([group], config=config, detail="reward")).rewards[0]


@pytest.mark.parametrize("name", ["plants", "zh_rain"])
async def test_what_is_not_in_the_answer_is_not_paid(client: AsyncRewardClient, name: str):
    task, good = TASKS[name], TASKS[name].honest[0]
    material = Material(
        task.prompt, task.reference, good.thought, good.answer, TASKS["inflation"].honest[0].answer
    )
    honest = [material.response(one.thought, one.answer) for one in task.honest]
    made = [attack for attack in attacks(material) if attack.family in FAMILIES]
    rewards = await paid(client, task.prompt, task.reference, [*honest, *(one.response for one in made)])
    assert rewards[0] == max(rewards[: len(honest)])
    assert [
        one.name for one, reward in zip(made, rewards[len(honest) :], strict=True) if reward > rewards[0]
    ] == []


async def test_a_right_phrase_is_paid_more_than_a_wrong_one_without_thinking(client: AsyncRewardClient):
    chosen = questions()[:8]
    won = compared = 0
    for question in chosen:
        answers = [question.right[0], *question.wrong]
        right, *wrong = await paid(client, question.prompt, question.reference, answers, think={"mode": "none"})
        won += sum(right > one for one in wrong)
        compared += len(wrong)
    assert won >= 0.9 * compared
