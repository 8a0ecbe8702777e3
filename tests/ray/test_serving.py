"""Two replicas are one service: the same numbers, whoever answers, and nothing lost with a replica."""

from __future__ import annotations

import asyncio
import random

import httpx

from opera_client import AsyncRewardClient

from .conftest import CONFIG, SIZE, expected, group, members_of, rewards_of


async def replicas_seen(url: str, count: int = 40) -> set[str]:
    async with httpx.AsyncClient(base_url=url) as http:
        answers = await asyncio.gather(*(http.get("/livez") for _ in range(count)))
    assert {len(answer.headers.get_list("x-request-id")) for answer in answers} == {1}
    return {answer.headers["x-opera-replica"] for answer in answers}


async def test_two_replicas_answer_exactly_what_one_process_answers(deployed):
    app = await deployed()
    assert len(await replicas_seen(app.url)) == 2
    groups = [group(number) for number in range(60)]
    rank = [{"id": str(n), "prompt": f"p{n}", "prefix": "a", "candidates": ["b", "cc", f"{n}"]} for n in range(20)]
    async with app.client(max_items=1) as there, AsyncRewardClient.in_process(engine="dummy") as here:
        for detail in ("tokens", "segments"):
            answers = [await client.reward(groups, config=CONFIG, detail=detail) for client in (there, here)]
            assert answers[0].groups == answers[1].groups
            assert answers[0].model == answers[1].model
        assert (await there.rank(rank)).items == (await here.rank(rank)).items
        assert (await there.model()) == (await here.model())
        assert (await there.rewards()) == (await here.rewards())
        # Member by member, all mixed up: a group's members meet in one replica, and all groups are whole.
        waiting = [member for number in range(40) for member in members_of(number)]
        random.Random(1).shuffle(waiting)
        members = await asyncio.gather(*(there.member(one) for one in waiting))
    whole = await expected(range(40))
    assert {name: [each[str(at)] for at in range(SIZE)] for name, each in rewards_of(members).items()} == whole
    assert {member.group_size_seen for member in members} == {SIZE}


async def test_groups_are_led_to_one_replica_and_spread_over_both(deployed):
    app = await deployed()
    homes: dict[str, set[str]] = {}
    async with httpx.AsyncClient(base_url=app.url) as http:
        for _ in range(3):
            for number in range(30):
                answer = await http.get("/livez", headers={"X-Opera-Group": str(number)})
                homes.setdefault(str(number), set()).add(answer.headers["x-opera-replica"])
    assert {len(home) for home in homes.values()} == {1}
    assert len(set.union(*homes.values())) == 2


async def test_a_replica_killed_under_load_loses_nothing(deployed):
    app = await deployed({"dummy_token_seconds": 2e-5})
    numbers = range(120)
    whole = await expected(numbers)
    async with app.client(max_items=1, concurrency=16) as client:

        async def by_group() -> list[list[float | None]]:
            answer = await client.reward([group(number) for number in numbers], config=CONFIG, detail="reward")
            return answer.rewards

        async def by_member(number: int) -> list[float | None]:
            await asyncio.sleep(0.03 * number)
            answers = await asyncio.gather(*(client.member(one) for one in members_of(number)))
            assert {answer.group_size_seen for answer in answers} == {SIZE}
            return [answer.reward for answer in answers]

        load = asyncio.gather(by_group(), *(by_member(number) for number in numbers))
        await asyncio.sleep(1.0)
        killed = app.kill("scorer")
        assert not load.done()
        grouped, *alone = await load
    assert grouped == list(whole.values())
    assert alone == list(whole.values())
    await app.until(lambda: app.running() == 2)
    assert killed not in await replicas_seen(app.url)


async def test_a_replica_that_is_to_go_sends_waiting_members_to_where_their_group_meets(deployed):
    app = await deployed()
    numbers = range(16)
    async with app.client() as client:
        early = [one for number in numbers for one in members_of(number)[: SIZE // 2]]
        late = [one for number in numbers for one in members_of(number)[SIZE // 2 :]]
        waiting = [asyncio.create_task(client.member(one)) for one in early]
        await asyncio.sleep(1.0)
        await app.deploy(autoscaling_config=None, num_replicas=1)
        answers = await asyncio.gather(*waiting, *(client.member(one) for one in late))
    assert {answer.group_size_seen for answer in answers} == {SIZE}
    assert len(await replicas_seen(app.url)) == 1


async def test_replicas_come_and_go_with_the_load(deployed):
    app = await deployed(
        {"dummy_token_seconds": 1e-4},
        num_replicas=None,
        autoscaling_config={
            "min_replicas": 1, "max_replicas": 2, "target_ongoing_requests": 2,
            "look_back_period_s": 1, "upscale_delay_s": 0.5, "downscale_delay_s": 2,
        },
    )  # fmt: skip
    seen = [app.running()]
    ended = asyncio.Event()

    async def watch() -> None:
        while not ended.is_set() or seen[-1] != 1:
            count = app.running()
            if count != seen[-1]:
                seen.append(count)
            await asyncio.sleep(0.2)

    watching = asyncio.create_task(watch())
    numbers = range(24)
    whole = list((await expected(numbers)).values())
    async with app.client(max_items=1, concurrency=24) as client:
        while 2 not in seen:
            answer = await client.reward([group(number) for number in numbers], config=CONFIG)
            assert answer.rewards == whole
        answer = await client.reward([group(number) for number in numbers], config=CONFIG)
        assert answer.rewards == whole
    ended.set()
    await asyncio.wait_for(watching, 90)
    assert seen == [1, 2, 1]


async def test_more_than_fits_is_refused_and_comes_again(deployed):
    app = await deployed(
        {"dummy_token_seconds": 1e-4}, num_replicas=1, max_ongoing_requests=2, max_queued_requests=2
    )
    body = {"groups": [group(1)], "config": CONFIG, "detail": "reward"}
    async with httpx.AsyncClient(base_url=app.url, timeout=60) as http:
        answers = await asyncio.gather(*(http.post("/reward", json=body) for _ in range(12)))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert all(answer.headers["retry-after"] == "1" for answer in refused)
    assert {answer.status_code for answer in answers} == {200, 429}
    async with app.client(max_items=1, concurrency=12) as client:
        answer = await client.reward([group(number) for number in range(12)], config=CONFIG)
    assert answer.rewards == list((await expected(range(12))).values())
