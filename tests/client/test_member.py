"""Members sent one by one: they wait together, however many, and all name the same meeting place."""

import asyncio
import threading

import httpx
import pytest

from opera_client import AsyncRewardClient, RewardClient
from opera_client._routing import GROUP_HEADER, group_route
from opera_client.errors import GroupIncomplete, InvalidRequest


def member(number: int, size: int, **changes) -> dict:
    return {
        "run_id": "run",
        "step": 1,
        "group_id": "q1",
        "group_size": size,
        "member_id": str(number),
        "prompt": "What is 17 + 25?\n",
        "reference": "42",
        "response": f"<think>\nMaybe {number}.\n\n</think>\n\n{number}",
        "wait_s": 60,
        **changes,
    }


async def test_more_members_than_the_client_has_connections_wait_together():
    async with AsyncRewardClient.in_process(engine="dummy", options={"concurrency": 1}) as client:
        answers = await asyncio.gather(*(client.member(member(number, 40)) for number in range(40)))
    assert [answer.id for answer in answers] == [str(number) for number in range(40)]
    assert {answer.group_size_seen for answer in answers} == {40}
    assert all(answer.reward is not None for answer in answers)


def test_the_plain_client_lets_threads_wait_for_each_other():
    answers = {}
    with RewardClient.in_process(engine="dummy") as client:

        def send(number: int) -> None:
            answers[number] = client.member(member(number, 3))

        threads = [threading.Thread(target=send, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [answers[number].group_size_seen for number in range(3)] == [3, 3, 3]


async def test_members_of_a_group_carry_one_header_and_the_whole_deadline():
    seen: list[httpx.Request] = []

    async def refuse(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(408, json={"error": {"code": "group_incomplete", "message": "alone"}})

    transport = httpx.MockTransport(refuse)
    async with AsyncRewardClient("http://there", transport=transport, retries=0, timeout=50) as client:
        for one in (member(0, 2), member(1, 2), member(0, 2, step=2)):
            with pytest.raises(GroupIncomplete):
                await client.member(one)
    first, second, other = (request.headers[GROUP_HEADER] for request in seen)
    assert first == second != other
    assert b'"timeout_s":' in seen[0].content


async def test_a_408_is_retried_with_the_very_same_member():
    bodies: list[bytes] = []

    async def refuse(request: httpx.Request) -> httpx.Response:
        bodies.append(request.content)
        return httpx.Response(408, json={"error": {"code": "group_incomplete", "message": "alone"}})

    async with AsyncRewardClient("http://there", transport=httpx.MockTransport(refuse), retries=1) as client:
        with pytest.raises(GroupIncomplete):
            await client.member(member(0, 2))
    assert len(bodies) == 2
    assert bodies[0] == bodies[1]


async def test_a_member_that_does_not_fit_is_refused_before_it_is_sent():
    async with AsyncRewardClient("http://there", transport=httpx.MockTransport(lambda _: None)) as client:
        with pytest.raises(InvalidRequest) as raised:
            await client.member(member(0, 0))
    assert raised.value.field == "group_size"


@pytest.mark.parametrize(
    ("name", "route"),
    [
        (("run", 1, "q1"), "525c390796bc2776"),  # printf '["run",1,"q1"]' | sha256sum
        ((None, None, "q1"), "c7a3eea57a869add"),
        (("run", 1, "水"), "802994ea90601f43"),
    ],
)
def test_the_route_is_the_same_everywhere_and_for_ever(name, route):
    assert group_route(*name) == route


def test_names_that_look_alike_have_routes_of_their_own():
    names = [
        ("a", 1, "b"),
        ("a1", None, "b"),
        (None, 1, "ab"),
        ("a", None, "1b"),
        ("null", None, "b"),
        (None, None, "b"),
    ]
    assert len({group_route(*name) for name in names}) == len(names)
