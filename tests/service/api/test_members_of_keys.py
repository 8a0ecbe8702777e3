"""Each key has a share of the places for members, however many runs it makes up."""

import asyncio

import httpx

from ..app import AppClient, opened
from ..until import until


async def parked(client: AppClient, number: int, key: str) -> asyncio.Task[httpx.Response]:
    """Send the first of two members, of a group in a run of its own; return once it waits, or was answered."""
    state, body = client.runtime.gatherer.state, {
        "run_id": f"run {number}", "group_id": "g", "group_size": 2, "member_id": "a", "wait_s": 60,
        "prompt": "p", "reference": "r", "response": "x",
    }  # fmt: skip
    before = state.waiting_groups
    task = asyncio.create_task(client.post("/reward/member", json=body, headers={"X-API-Key": key}))
    await until(lambda: state.waiting_groups > before or task.done())
    return task


async def test_a_key_that_makes_up_runs_leaves_room_for_another():
    async with opened(api_keys="theirs,mine", max_waiting_groups=10) as client:
        waiting = [await parked(client, number, "theirs") for number in range(8)]
        refused = await (await parked(client, 8, "theirs"))
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
        assert "8 groups sent with this key" in refused.json()["error"]["message"]
        waiting.append(await parked(client, 9, "mine"))
        assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
