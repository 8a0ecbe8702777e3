"""Connections that say nothing: they cost a place and a few seconds, and never anybody else's."""

import asyncio
import contextlib
import logging
import re
import socket
import threading
import time
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx
import uvicorn

from opera_service.server import command
from opera_service.server.connections import LoopErrors, OnceASecond

from ..live import live


def connected(url: str) -> socket.socket:
    place = urlsplit(url)
    return socket.create_connection((place.hostname, place.port), timeout=20)


def running(url: str) -> float:
    """Requests that the service is answering, this one included."""
    found = re.search(r"^opera_requests_running (\S+)$", httpx.get(f"{url}/metrics").text, re.MULTILINE)
    assert found
    return float(found[1])


def once_told(url: str, status: int) -> httpx.Response:
    """The first answer of this status; how soon it comes depends on when the server reads other connections."""
    end = time.monotonic() + 30
    while (answer := httpx.get(f"{url}/livez")).status_code != status:
        assert time.monotonic() < end, answer.text
        time.sleep(0.02)
    return answer


def test_a_head_that_does_not_come_is_not_waited_for():
    with live("--engine", "dummy", "--head-timeout-s", "0.5") as server:
        silent, slow = connected(server.url), connected(server.url)
        started = time.monotonic()
        slow.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n")
        for one in (silent, slow):
            with one:
                assert one.recv(100) == b""
        assert 0.3 < time.monotonic() - started < 15


def test_a_slow_body_and_a_slow_answer_are_waited_for():
    with live("--engine", "dummy", "--head-timeout-s", "0.3") as server, connected(server.url) as slow:
        slow.sendall(b"POST /reward HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
        time.sleep(1.0)
        slow.sendall(b"{}")
        assert slow.recv(100).startswith(b"HTTP/1.1 422")


def test_an_idle_connection_gives_way_and_a_request_in_hand_does_not():
    with live("--engine", "dummy", "--max-connections", "3") as server, ExitStack() as opened:
        busy = opened.enter_context(connected(server.url))
        busy.sendall(b"POST /reward HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{")
        assert httpx.get(f"{server.url}/livez").status_code == 200  # by now its head is read
        for _ in range(20):
            opened.enter_context(connected(server.url))
        with httpx.Client(base_url=server.url) as client:
            assert client.get("/livez").status_code == 200
        busy.sendall(b"}")
        assert busy.recv(100).startswith(b"HTTP/1.1 422")


def test_where_all_are_busy_a_new_one_is_told_in_our_words():
    with live("--engine", "dummy", "--max-connections", "2") as server, ExitStack() as opened:
        for _ in range(2):
            busy = opened.enter_context(connected(server.url))
            busy.sendall(b"POST /reward HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{")
        answer = once_told(server.url, 503)  # as soon as both heads are read
        assert answer.json()["error"]["code"] == "overloaded"
        assert answer.headers["Retry-After"] == "1"


def test_a_large_body_that_waits_for_its_turn_keeps_its_connection():
    """Three others hold the places for large bodies and dribble on; connections are full."""
    head = b"POST /reward HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    bounds = ("--max-connections", "4", "--head-timeout-s", "0.5")
    with live("--engine", "dummy", *bounds) as server, ExitStack() as opened:
        dribblers = [opened.enter_context(connected(server.url)) for _ in range(3)]
        for one in dribblers:
            one.sendall(head % 3_000_000 + b" " * 1_200_000)
        time.sleep(0.5)
        honest = opened.enter_context(connected(server.url))
        sending = threading.Thread(target=honest.sendall, args=(head % 20_000_000 + b" " * 20_000_000,))
        sending.start()
        for _ in range(10):  # longer than a body that has stopped may stay
            time.sleep(0.1)
            for one in dribblers:
                one.sendall(b" ")
        with connected(server.url) as late:
            assert late.recv(100).startswith(b"HTTP/1.1 503")
        for one in dribblers:
            one.close()
        sending.join(20)
        assert honest.recv(100).startswith(b"HTTP/1.1 400")  # blanks are no JSON


def test_a_body_that_has_stopped_gives_way_where_all_are_busy():
    with (
        live("--engine", "dummy", "--max-connections", "2", "--head-timeout-s", "0.5") as server,
        ExitStack() as opened,
    ):
        stopped = [opened.enter_context(connected(server.url)) for _ in range(2)]
        for one in stopped:
            one.sendall(b"POST /reward HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{")
        time.sleep(1.5)
        once_told(server.url, 200)
        stopped[0].settimeout(20)
        with contextlib.suppress(ConnectionResetError):
            assert stopped[0].recv(100) == b""


def test_running_out_of_descriptors_is_one_line_a_second(caplog):
    loop = asyncio.new_event_loop()
    try:
        tell = LoopErrors()
        context = {
            "message": "socket.accept() out of system resource", "exception": OSError(24, "Too many open files"),
        }  # fmt: skip
        with caplog.at_level(logging.ERROR):
            for _ in range(2048):
                tell(loop, context)
        assert [record.getMessage() for record in caplog.records] == [
            "no connection can be taken: Too many open files (ulimit -n)"
        ]
        tell(loop, {"message": "something else", "exception": ValueError("x")})
        assert "something else" in caplog.text
    finally:
        loop.close()


async def test_few_connections_are_accepted_at_a_stretch_and_many_may_wait():
    queues = []

    class Listener(socket.socket):
        def listen(self, backlog: int = 0) -> None:
            queues.append(backlog)
            super().listen(backlog)

    async def app(scope: object, receive: object, send: object) -> None:
        raise AssertionError("nobody asks")

    with Listener() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_config=None, lifespan="off", backlog=command.ACCEPTED_AT_ONCE)
        server = command.GracefulServer(config, lifecycle=None)  # type: ignore[arg-type]
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup([listener])
        await server.shutdown([listener])
    assert queues == [command.ACCEPTED_AT_ONCE, command.WAITING_CONNECTIONS]


def test_a_line_that_strangers_cause_is_logged_once_a_second(caplog):
    logger = logging.getLogger("test.strangers")
    limit = OnceASecond()
    logger.addFilter(limit)
    times = iter([10.0, 10.2, 10.9, 11.1, 11.2])
    for at, text in zip(times, ["a", "a", "b", "a", "a"], strict=True):
        record = logger.makeRecord(logger.name, logging.WARNING, "", 0, text, (), None)
        record.created = at
        logger.handle(record)
    assert [record.msg for record in caplog.records] == ["a", "b", "a"]
    for error in (ValueError("one"), ValueError("another")):
        logger.error("something failed", exc_info=error)
    assert [record.exc_info[1].args for record in caplog.records[3:]] == [("one",), ("another",)]


def test_every_request_of_a_client_that_dies_is_told():
    with live("--engine", "dummy", "--head-timeout-s", "60") as server:
        begun = b"POST /reward HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"
        with ExitStack() as stack:
            for _ in range(300):
                stack.enter_context(connected(server.url)).sendall(begun)
            assert httpx.get(f"{server.url}/livez").status_code == 200
            assert running(server.url) >= 300
        end = time.monotonic() + 30
        while (left := running(server.url)) > 1:  # the question itself
            assert time.monotonic() < end, f"{left} requests of a dead client still run"
            time.sleep(0.05)
