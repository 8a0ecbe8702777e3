"""The plain client: in threads, in a running loop, after a fork, and how it ends."""

import asyncio
import gc
import multiprocessing
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from tests.client.toy import Service, group, toy_reward_answer

from opera_client import AsyncRewardClient, RewardClient
from opera_client.errors import NotSupported, Unavailable


def answering(request: httpx.Request) -> httpx.Response:
    import json

    return httpx.Response(200, json=toy_reward_answer(json.loads(request.content)))


def test_the_app_starts_and_stops_with_the_client(service: Service):
    with RewardClient.in_process(service) as client:
        assert service.events == ["started"]
        client.health()
    assert service.events == ["started", "stopped"]


def test_a_client_may_be_used_without_with_and_again_after_close(service: Service):
    client = RewardClient.in_process(service)
    assert service.events == []
    client.health()
    client.close()
    client.close()
    client.health()
    client.close()
    assert service.events == ["started", "stopped"] * 2


def test_a_forgotten_client_stops_its_thread_and_app(service: Service):
    client = RewardClient.in_process(service)
    client.health()
    gone = weakref.ref(client)
    del client
    gc.collect()
    assert gone() is None
    assert service.events == ["started", "stopped"]
    assert not [t for t in threading.enumerate() if t.name == "opera-client"]


async def test_first_calls_at_the_same_time_start_one_app(service: Service):
    client = AsyncRewardClient.in_process(service)
    await asyncio.gather(*(client.health() for _ in range(5)))
    await client.aclose()
    assert service.events == ["started", "stopped"]


async def test_it_works_inside_a_running_loop(service: Service):
    with RewardClient.in_process(service) as client:
        assert client.reward([group("a")]).rewards == [[0.01]]


def test_many_threads_share_one_client(service: Service):
    service.delay = lambda: 0.002
    with RewardClient.in_process(service) as client, ThreadPoolExecutor(8) as pool:
        lengths = list(range(1, 40))
        results = pool.map(lambda n: client.reward([group("x" * n)]).rewards, lengths)
        assert list(results) == [[[n / 100]] for n in lengths]
    assert service.events == ["started", "stopped"]


def _ask_in_child(client: RewardClient, pipe) -> None:
    try:
        pipe.send(client.reward([group("abc")]).rewards)
    except Exception as error:  # noqa: BLE001
        pipe.send(error)


def _in_fork(client: RewardClient) -> object:
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=_ask_in_child, args=(client, there))
    child.start()
    assert here.poll(20), "the child hangs"
    answer = here.recv()
    child.join()
    return answer


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_opens_its_own_connection():
    with RewardClient("http://there", transport=httpx.MockTransport(answering)) as client:
        assert client.reward([group("a")]).rewards == [[0.01]]
        assert _in_fork(client) == [[0.03]]
        assert client.reward([group("ab")]).rewards == [[0.02]]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_app_does_not_survive_a_fork_and_says_so(service: Service):
    with RewardClient.in_process(service) as client:
        client.health()
        answer = _in_fork(client)
        assert answer == "NotSupported" or isinstance(answer, NotSupported)
        client.health()


def test_an_async_client_may_move_to_another_loop():
    client = AsyncRewardClient("http://there", transport=httpx.MockTransport(answering))
    for _ in range(2):
        assert asyncio.run(client.reward([group("a")])).rewards == [[0.01]]


def test_an_app_that_crashes_while_starting_says_why():
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "a long traceback"})
        raise RuntimeError("no weights")

    with pytest.raises(Unavailable, match="no weights"), RewardClient.in_process(app):
        pass


def test_an_app_that_has_its_own_error_keeps_it():
    async def app(scope, receive, send):
        await receive()
        raise NotSupported("this model is too new")

    with pytest.raises(NotSupported, match="too new"), RewardClient.in_process(app):
        pass


def test_an_app_that_ends_instead_of_starting_is_an_error():
    async def app(scope, receive, send):
        return

    with pytest.raises(Unavailable), RewardClient.in_process(app):
        pass


def test_a_missing_service_is_one_clear_line(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "fastapi", None)
    for name in [name for name in sys.modules if name.startswith(("opera_service.api", "opera_service.server"))]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(NotSupported) as caught, RewardClient.in_process(engine="dummy") as client:
        client.health()
    assert "opera-reward[server]" in caught.value.message
    assert "\n" not in caught.value.message


def test_both_clients_have_the_same_methods():
    def methods(kind):
        return {name for name in dir(kind) if callable(getattr(kind, name)) and not name.startswith("_")}

    assert methods(AsyncRewardClient) - {"aclose"} == methods(RewardClient) - {"close"}
    assert RewardClient.reward.__doc__ == AsyncRewardClient.reward.__doc__
