"""What large bodies cost is bounded before anything is known of them."""

import asyncio
import ctypes
import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from pydantic import BaseModel
from starlette.requests import Request

from opera_client.errors import BodyTooLarge, DeadlineExceeded, InvalidRequest
from opera_client.wire import RewardRequest
from opera_service.api import body as bodies
from opera_service.api.body import LARGE, LargeBodies, read_body
from opera_service.api.bounded_json import parse

from ..until import until


class Note(BaseModel):
    text: str


class Sender:
    """A client that sends a body piece by piece, as far as it is let."""

    def __init__(self, pieces: list[bytes], *, stops: bool = False) -> None:
        self.left = list(pieces)
        self.stops = stops
        """It never says that this was all."""

    async def receive(self) -> dict[str, object]:
        await asyncio.sleep(0)
        if self.left:
            return {"type": "http.request", "body": self.left.pop(0), "more_body": True}
        if self.stops:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": b"", "more_body": False}

    def read(self, large: LargeBodies, *, limit: int = 16 * LARGE) -> asyncio.Task[Note]:
        request = Request({"type": "http", "method": "POST", "headers": []}, self.receive)
        return asyncio.create_task(read_body(request, Note, limit=limit, large=large))


def note(size: int) -> list[bytes]:
    """A body of about `size` bytes in pieces of 64 kB."""
    whole = b'{"text":"' + b"a" * size + b'"}'
    return [whole[at : at + 65_536] for at in range(0, len(whole), 65_536)]


async def test_a_few_large_bodies_are_read_at_a_time_and_small_ones_never_wait():
    large = LargeBodies(places=2)
    holders = [Sender(note(2 * LARGE), stops=True) for _ in range(2)]
    held = [one.read(large) for one in holders]
    await until(lambda: not any(one.left for one in holders))
    waiting = Sender(note(8 * LARGE))
    read = waiting.read(large)
    small = await Sender(note(100_000)).read(large)
    assert len(small.text) == 100_000
    assert sum(map(len, waiting.left)) > 6 * LARGE, "the rest stays in the socket until there is a place"
    held[0].cancel()
    assert len((await read).text) == 8 * LARGE
    held[1].cancel()
    await asyncio.gather(*held, return_exceptions=True)


async def test_what_large_bodies_took_is_returned_once_for_several(monkeypatch: pytest.MonkeyPatch):
    trimmed: list[str] = []
    monkeypatch.setattr(bodies, "RETURNED_AFTER_S", 0.3)
    monkeypatch.setattr(bodies, "trim_memory", lambda: trimmed.append(threading.current_thread().name))
    large = LargeBodies()
    await Sender(note(100_000)).read(large)
    await asyncio.sleep(0.4)
    assert trimmed == []
    with pytest.raises(BodyTooLarge):
        await Sender(note(3 * LARGE)).read(large, limit=2 * LARGE)
    await asyncio.gather(*(Sender(note(2 * LARGE)).read(large) for _ in range(3)))
    await until(lambda: bool(trimmed))
    await asyncio.sleep(0.4)
    assert len(trimmed) == 1
    assert trimmed[0].startswith("opera-large-body"), "the event loop waits for nothing"


def test_memory_is_trimmed_where_the_allocator_can(monkeypatch: pytest.MonkeyPatch):
    kept: list[int] = []
    for library in (SimpleNamespace(malloc_trim=kept.append), SimpleNamespace()):
        monkeypatch.setattr(ctypes, "CDLL", lambda name, library=library: library)
        bodies.trim_memory()
    assert kept == [0]


async def test_one_large_body_is_parsed_at_a_time(monkeypatch: pytest.MonkeyPatch):
    parsing, most, lock = 0, 0, threading.Lock()

    def counted(data: bytearray, model: type[Note]) -> Note:
        nonlocal parsing, most
        with lock:
            parsing += 1
            most = max(most, parsing)
        found = parse(data, model)
        with lock:
            parsing -= 1
        return found

    monkeypatch.setattr(bodies, "parse", counted)
    large = LargeBodies(places=6)
    read = await asyncio.gather(*(Sender(note(3 * LARGE)).read(large) for _ in range(6)))
    assert [len(one.text) for one in read] == [3 * LARGE] * 6
    assert most == 1


async def test_a_large_body_that_stops_to_come_gives_its_place_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bodies, "LARGE_PATIENCE_S", 0.2)
    large = LargeBodies(places=1)
    stopped = Sender(note(2 * LARGE), stops=True).read(large)
    other = Sender(note(2 * LARGE)).read(large)
    with pytest.raises(DeadlineExceeded, match="send it again, or send less"):
        await stopped
    assert len((await other).text) == 2 * LARGE


async def test_a_body_beyond_the_limit_gives_its_place_back():
    large = LargeBodies(places=1)
    with pytest.raises(BodyTooLarge, match="--max-body-mb"):
        await Sender(note(3 * LARGE)).read(large, limit=2 * LARGE)
    assert len((await Sender(note(2 * LARGE)).read(large, limit=3 * LARGE)).text) == 2 * LARGE


def key_in_a_group(key: bytes) -> bytes:
    return b'{"groups":[{"prompt":"p","reference":"r","' + key + b'":0,"trajectories":[]}]}'


@pytest.mark.parametrize(
    ("form", "field"),
    [(lambda key: b'{"' + key + b'":0}', "k" * 100), (key_in_a_group, "groups.0." + "k" * 100)],
)
def test_a_key_of_a_megabyte_is_named_by_its_beginning(form: Callable[[bytes], bytes], field: str):
    with pytest.raises(InvalidRequest, match="is no field here") as caught:
        parse(form(b"k" * LARGE), RewardRequest)
    assert caught.value.field == field
