"""Answers that keep math-verify busy cost their own group, not the others and not the service."""

import asyncio
import time

import httpx
import pytest

from .conftest import group

HANGS = r"9^{9^{9^{9}}}"


def hostile_answers(sign: str) -> list[str]:
    return [f"{HANGS}{sign}{at}" for at in range(24)]


def asked(run: str, answers: list[str], **more) -> dict:
    said = [f"<think>\nso\n\n</think>\n\n\\boxed{{{answer}}}" for answer in answers]
    trajectories = [{"id": str(at), "response": response} for at, response in enumerate(said)]
    return {"run_id": run, "groups": [group(task="math", reference="18", trajectories=trajectories)], **more}


@pytest.mark.slow  # waits for deadlines
async def test_hostile_answers_leave_others_and_the_deadline_alone(client: httpx.AsyncClient):
    right = (await client.post("/reward", json=asked("honest", ["36/2", "17"]))).json()
    assert [one["reward"] > 0 for one in right["groups"][0]["trajectories"]] == [True, False]
    hostile = asyncio.create_task(
        client.post("/reward", json=asked("hostile", hostile_answers("+"), timeout_s=120))
    )
    await asyncio.sleep(0.3)
    started = time.monotonic()
    open_task = await client.post("/reward", json={"run_id": "honest", "groups": [group()]})
    assert open_task.status_code == 200
    assert not hostile.done(), "an open task needs no verifier and waits for none"
    hurried = await client.post("/reward", json=asked("hostile", hostile_answers("-"), timeout_s=1))
    assert hurried.status_code in (200, 504)
    assert time.monotonic() - started < 60, "a deadline is honoured while a verifier is waited for"
    honest = (await client.post("/reward", json=asked("honest", ["54/3", "17"]))).json()
    assert [one["reward"] > 0 for one in honest["groups"][0]["trajectories"]] == [True, False]
    answer = (await hostile).json()
    codes = {one["error"]["code"] for one in answer["groups"][0]["trajectories"]} if "groups" in answer else set()
    assert codes <= {"outcome_unavailable"}
