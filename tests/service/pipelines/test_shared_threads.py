"""No run holds all worker threads, whatever it asks and whenever its callers leave."""

import asyncio
import threading
from contextvars import ContextVar

import pytest

from opera_service.pipelines.shared_threads import SharedThreads

from ..until import until


class Held:
    """Work that goes on until it is released."""

    def __init__(self) -> None:
        self.running = 0
        self._lock, self._end = threading.Lock(), threading.Event()

    def work(self) -> str:
        with self._lock:
            self.running += 1
        assert self._end.wait(60)
        with self._lock:
            self.running -= 1
        return "done"

    def release(self) -> None:
        self._end.set()


@pytest.mark.parametrize(("count", "most"), [(1, 1), (2, 1), (3, 2), (4, 3)])
async def test_one_run_leaves_a_thread_to_the_others(count: int, most: int):
    threads, held = SharedThreads(count), Held()
    greedy = [asyncio.create_task(threads.run("greedy", held.work)) for _ in range(5)]
    await until(lambda: held.running == most)
    if count > 1:
        assert await threads.run("other", lambda: "at once") == "at once"
    assert held.running == most
    held.release()
    assert await asyncio.gather(*greedy) == ["done"] * 5
    threads.close()


async def test_what_goes_on_after_its_caller_left_keeps_its_place():
    threads, held = SharedThreads(3), Held()
    left = [asyncio.create_task(threads.run("greedy", held.work)) for _ in range(2)]
    await until(lambda: held.running == 2)
    for one in left:
        one.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    more = Held()
    waiting = asyncio.create_task(threads.run("greedy", more.work))
    assert await threads.run("other", lambda: "at once") == "at once"
    assert more.running == 0, "both of its places are still in use"
    held.release()
    await until(lambda: more.running == 1)
    more.release()
    assert await waiting == "done"
    threads.close()


async def test_a_caller_that_leaves_before_its_turn_takes_no_place():
    threads, held = SharedThreads(2), Held()
    first = asyncio.create_task(threads.run("run", held.work))
    await until(lambda: held.running == 1)
    never = asyncio.create_task(threads.run("run", held.work))
    await asyncio.sleep(0)
    never.cancel()
    held.release()
    assert await first == "done"
    assert await threads.run("run", lambda: "next") == "next"
    threads.close()


async def test_errors_and_the_callers_context_pass():
    name: ContextVar[str] = ContextVar("name")
    name.set("mine")
    threads = SharedThreads(2)
    assert await threads.run("", name.get) == "mine"
    with pytest.raises(ZeroDivisionError):
        await threads.run("", lambda: 1 // 0)
    threads.close()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="after shutdown"):
            await threads.run("", lambda: "closed")
