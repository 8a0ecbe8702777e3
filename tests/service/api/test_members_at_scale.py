"""A thousand groups that arrive member by member, all mixed up, with callers that hang up and come again."""

import asyncio
import json
import random
from collections import deque

import pytest
from fastapi import FastAPI

from opera_service.server.app import create_app
from opera_service.server.settings import Settings

pytestmark = pytest.mark.slow  # 16,000 requests

GROUPS, SIZE, CONNECTIONS = 1000, 16, 64
# Without the bridge the dummy engine sees each response's last byte, so that rewards differ.
ASKED = {"detail": "reward", "preset": "hardened-1", "config": {"context": {"bridge": ""}}}
GIVEN = {"prompt": "What follows?\n", "reference": "yes, 42"}


def response(group: int, member: int) -> str:
    """Some thoughts, different for every member of every group."""
    dice = random.Random(f"{group} {member}")

    def word() -> str:
        return "".join(dice.choices("abcdefghijklmnop", k=dice.randint(3, 9)))

    return f"<think>\n{word()} {word()}\n\nWait, {word()}.\n\n{word()}</think>\n\n{word()}"


async def call(
    app: FastAPI, path: str, body: dict, hang_up: asyncio.Event | None = None
) -> tuple[int, dict] | None:
    """POST as an ASGI server does; None when the caller hung up before the answer."""
    gone = hang_up or asyncio.Event()
    to_send: deque[dict] = deque([{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}])
    sent: list[dict] = []

    async def receive() -> dict:
        if not to_send:
            await gone.wait()
            return {"type": "http.disconnect"}
        return to_send.popleft()

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"content-length", b"600")],
        "state": {},
    }
    await app(scope, receive, send)
    if not sent:
        return None
    return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent[1:]))


def member_body(group: int, member: int) -> dict:
    return {
        **ASKED,
        **GIVEN,
        "run_id": "run",
        "step": 1,
        "group_id": f"g{group}",
        "group_size": SIZE,
        "member_id": f"m{member:02}",
        "response": response(group, member),
        "wait_s": 0.0,
        "on_timeout": "error",
    }


async def direct(app: FastAPI, groups: range) -> dict[tuple[str, str], float]:
    """What one /reward call on the whole groups pays each member."""
    body = [
        {
            **GIVEN,
            "group_id": f"g{group}",
            "trajectories": [{"id": f"m{one:02}", "response": response(group, one)} for one in range(SIZE)],
        }
        for group in groups
    ]
    answer = await call(app, "/reward", {**ASKED, "groups": body})
    assert answer is not None
    assert answer[0] == 200
    return {
        (group["group_id"], one["id"]): one["reward"]
        for group in answer[1]["groups"]
        for one in group["trajectories"]
    }


@pytest.mark.timeout(900)  # half a minute when the machine is quiet
async def test_a_thousand_groups_of_sixteen_from_64_connections_are_each_ranked_in_their_own_group():
    """Every connection carries one request at a time: it is told to come again (408), keeps its place, and does.

    One request in twenty hangs up after it was sent.
    """
    dice = random.Random(1)
    todo = deque((group, member) for group in range(GROUPS) for member in range(SIZE))
    dice.shuffle(todo)
    answers: dict[tuple[str, str], dict] = {}
    hung_up = 0
    app = create_app(Settings(engine="dummy", cache_mb=0))

    async def connection() -> None:
        nonlocal hung_up
        while todo:
            group, member = todo.popleft()
            body = member_body(group, member)
            hang_up = asyncio.Event()
            if dice.random() < 0.05:
                body["wait_s"] = 60.0
                asyncio.get_running_loop().call_later(0.001, hang_up.set)
            answer = await call(app, "/reward/member", body, hang_up)
            if answer is None or answer[0] == 408:
                hung_up += answer is None
                todo.append((group, member))
            else:
                assert answer[0] == 200, answer
                answers[body["group_id"], body["member_id"]] = answer[1]

    async with app.router.lifespan_context(app):
        await asyncio.gather(*(connection() for _ in range(CONNECTIONS)))
        counts = app.state.lifecycle.runtime.gatherer.state.counts
        expected = {}
        for start in range(0, GROUPS, 50):
            expected |= await direct(app, range(start, min(start + 50, GROUPS)))

    assert len(answers) == GROUPS * SIZE
    assert {name: answer["reward"] for name, answer in answers.items()} == expected
    assert len(set(expected.values())) > GROUPS  # the numbers tell groups and members apart
    for (group, member), answer in answers.items():
        assert (answer["group_id"], answer["id"]) == (group, member)
        assert answer["group_size_seen"] == SIZE
        assert not {"group_partial", "late_member"} & set(answer["flags"])
    assert (counts.complete, counts.partial, counts.late, counts.failed) == (GROUPS, 0, 0, 0)
    assert hung_up > 0
