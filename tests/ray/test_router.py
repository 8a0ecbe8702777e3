"""Where a group's members are routed, on the router alone."""

from __future__ import annotations

import pickle
from collections import Counter
from types import SimpleNamespace

import pytest
from ray.serve._private.common import DeploymentID, StreamingHTTPRequest
from ray.serve.request_router import ReplicaID

from opera_service.ray_serve.router import REMEMBERED, GroupRouter, group_of, rank


def request(path: str = "/reward/member", group: str | None = None) -> SimpleNamespace:
    headers = [(b"content-type", b"application/json")]
    if group is not None:
        headers.append((b"x-opera-group", group.encode()))
    scope = {"type": "http", "path": path, "headers": headers}
    args = [pickle.dumps(StreamingHTTPRequest(scope, proxy_actor_name="proxy"))]
    return SimpleNamespace(args=args, routing_context=SimpleNamespace(should_backoff=False))


def replicas(*names: str) -> list[SimpleNamespace]:
    return [SimpleNamespace(replica_id=ReplicaID(name, DeploymentID("scorer", "opera"))) for name in names]


@pytest.fixture
def router() -> GroupRouter:
    made = GroupRouter.__new__(GroupRouter)  # what Serve's constructor sets up is not asked here
    made.initialize_state()
    return made


async def home(router: GroupRouter, there: list[SimpleNamespace], asked: SimpleNamespace) -> str:
    ((chosen,),) = await router.choose_replicas(there, asked)
    assert asked.routing_context.should_backoff
    return chosen.replica_id.unique_id


def test_the_group_is_in_the_header_or_else_all_members_are_one():
    assert group_of(request(group="abc").args) == b"abc"
    assert group_of(request("/reward", "abc").args) == b"abc"
    assert group_of(request("/reward").args) is None
    assert group_of(request("/openrlhf/reward").args) == b"/openrlhf/reward"
    assert group_of([]) is None
    assert group_of([object()]) is None


async def test_groups_are_spread_alike_by_every_proxy(router):
    other = GroupRouter.__new__(GroupRouter)
    other.initialize_state()
    there = replicas("a", "b", "c")
    homes = [await home(router, there, request(group=str(number))) for number in range(600)]
    assert homes == [await home(other, there[::-1], request(group=str(number))) for number in range(600)]
    assert all(150 < count < 250 for count in Counter(homes).values())


async def test_a_new_replica_splits_no_group_that_has_begun_and_takes_its_share_of_new_ones(router):
    begun = {str(n): await home(router, replicas("a", "b"), request(group=str(n))) for n in range(200)}
    there = replicas("a", "b", "c")
    assert {group: await home(router, there, request(group=group)) for group in begun} == begun
    later = Counter([await home(router, there, request(group=f"new {n}")) for n in range(600)])
    assert 150 < later["c"] < 250


async def test_only_the_groups_of_a_lost_replica_move(router):
    begun = {str(n): await home(router, replicas("a", "b", "c"), request(group=str(n))) for n in range(200)}
    for group, before in begun.items():
        now = await home(router, replicas("a", "c"), request(group=group))
        assert now == before if before != "b" else now in "ac"


async def test_the_memory_is_bounded(router):
    for number in range(REMEMBERED + 10):
        await home(router, replicas("a"), request(group=str(number)))
    assert len(router.homes) == REMEMBERED


def test_ranks_depend_on_both():
    assert len({rank(group, replica) for group in (b"1", b"2") for replica in ("a", "b")}) == 4
