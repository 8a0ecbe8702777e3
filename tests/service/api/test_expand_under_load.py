"""Sampling takes its turn: bounds, fair shares and deadlines of /expand, and what becomes of abandoned work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
import pytest

from opera_service.engines.base import Generation, GenerationRequest
from opera_service.engines.dummy import DummyEngine
from opera_service.trajectories.byte_tokenizer import ByteTokenizer

from ..app import AppClient, on, opened
from ..until import until
from .conftest import group


class Gated(DummyEngine):
    """The dummy engine, which samples as many batches as it is let, and remembers what they began with."""

    def __init__(self) -> None:
        super().__init__(ByteTokenizer.vocab_size)
        self.permits = asyncio.Semaphore(0)
        self.batches: list[str] = []
        self.broken_off = 0

    async def generate(self, requests: Sequence[GenerationRequest]) -> list[list[Generation]]:
        self.batches.append("".join(chr(request.prompt_ids[0]) for request in requests))
        try:
            await self.permits.acquire()
        except asyncio.CancelledError:
            self.broken_off += 1
            raise
        return await super().generate(requests)

    def let(self, batches: int = 1000) -> None:
        for _ in range(batches):
            self.permits.release()


class House:
    """A service on a gated engine, and a client of it."""

    def __init__(self, client: AppClient, engine: Gated) -> None:
        self.client, self.runtime, self.engine = client, client.runtime, engine

    def expand(
        self, prompt: str, *, run: str = "", items: int = 1, **fields: object
    ) -> asyncio.Task[httpx.Response]:
        body = {"items": [{"prompt": prompt, "n": 1, "max_tokens": 99}] * items, "run_id": run or None, **fields}
        return asyncio.create_task(self.client.post("/expand", json=body))

    async def metric(self, name: str) -> float:
        lines = (await self.client.get("/metrics")).text.splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), 0.0)


@asynccontextmanager
async def house(batch: int = 100, **limits: int) -> AsyncIterator[House]:
    engine = Gated()
    async with opened(on(engine), max_batch_tokens=batch, **limits) as client:
        try:
            yield House(client, engine)
        finally:
            engine.let()


async def test_what_comes_meanwhile_is_sampled_together():
    async with house(batch=300) as home:
        first = home.expand("a")
        await until(lambda: home.engine.batches == ["a"])
        others = [home.expand(name) for name in "bcd"]
        await until(lambda: home.runtime.sampling_dispatcher.queued_items == 3)
        assert await home.metric("opera_queue_samplings") == 3
        assert await home.metric("opera_queue_tokens") == 300
        assert await home.metric("opera_queue_requests") == 3
        assert await home.metric("opera_running_samplings") == 1
        assert await home.metric("opera_running_tokens") == 100
        home.engine.let()
        assert {(await one).status_code for one in (first, *others)} == {200}
        assert [sorted(batch) for batch in home.engine.batches] == [["a"], ["b", "c", "d"]]
        assert await home.metric("opera_sampling_tokens_per_second") > 0
        assert await home.metric("opera_queue_tokens") == await home.metric("opera_running_tokens") == 0


async def test_runs_take_turns():
    async with house() as home:
        greedy = home.expand("g", run="greedy", items=6)
        await until(lambda: home.engine.batches == ["g"])
        modest = home.expand("m", run="modest")
        await until(lambda: home.runtime.sampling_dispatcher.queued_items == 6)
        home.engine.let()
        assert ((await greedy).status_code, (await modest).status_code) == (200, 200)
        assert "m" in home.engine.batches[1:3]


async def test_others_are_scored_while_branches_are_sampled():
    async with house() as home:
        sampling = home.expand("a")
        await until(lambda: home.engine.batches == ["a"])
        assert (await home.client.post("/reward", json={"groups": [group()]})).status_code == 200
        assert not sampling.done()


async def test_sampling_counts_in_the_limits_of_requests():
    async with house(max_queue_requests=1) as home:
        let_in = [home.expand("a")]
        await until(lambda: home.engine.batches == ["a"])
        let_in.append(home.expand("b"))
        await until(lambda: home.runtime.sampling_dispatcher.queued_items == 1)
        for refused in (
            await home.expand("c"),
            await home.client.post("/reward", json={"groups": [group()]}),
        ):
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
            assert int(refused.headers["Retry-After"]) >= 1
        home.engine.let()
        # Admitted once, it is finished: its branches are ranked, whatever has come meanwhile.
        assert [(await one).status_code for one in let_in] == [200, 200]


async def test_sampling_counts_in_the_limits_of_tokens():
    async with house(max_queue_tokens=250) as home:
        let_in = [home.expand("a")]
        await until(lambda: home.engine.batches == ["a"])
        let_in.append(home.expand("b", items=2))
        await until(lambda: home.runtime.sampling_dispatcher.queued_items == 2)
        assert (await home.expand("c")).status_code == 429
        assert await home.metric('opera_rejected_total{reason="queue_tokens"}') == 1
        whole = await home.expand("d", items=3)
        assert whole.status_code == 429
        home.engine.let()
        assert [(await one).status_code for one in let_in] == [200, 200]
        too_many = await home.expand("d", items=3)
        error = too_many.json()["error"]
        assert (too_many.status_code, error["code"], error["field"]) == (413, "too_many_tokens", "items")


async def test_a_deadline_that_cannot_be_met_is_refused_at_once():
    async with house() as home:
        home.engine.let(1)
        home.engine.seconds_per_token = 2e-3
        assert (await home.expand("a")).status_code == 200  # now the rate is known: 0.2 s each
        running = home.expand("b")
        await until(lambda: home.engine.batches == ["a", "b"])
        waiting = home.expand("c")
        await until(lambda: home.runtime.sampling_dispatcher.queued_items == 1)
        assert (await home.expand("d", timeout_s=0.3)).status_code == 429
        assert await home.metric('opera_rejected_total{reason="deadline"}') == 1
        home.engine.let()
        assert [(await one).status_code for one in (running, waiting)] == [200, 200]


async def test_what_expires_in_the_queue_is_never_sampled():
    async with house() as home:
        running = home.expand("a")
        await until(lambda: home.engine.batches == ["a"])
        expired = await home.expand("b", timeout_s=1)
        assert (expired.status_code, expired.json()["error"]["code"]) == (504, "deadline_exceeded")
        assert await home.metric('opera_dropped_samplings_total{reason="expired"}') == 1
        home.engine.let()
        assert (await running).status_code == 200
        assert home.engine.batches == ["a"]


async def test_what_expires_on_the_engine_is_broken_off():
    async with house() as home:
        expired = await home.expand("a", timeout_s=1)
        assert (expired.status_code, expired.json()["error"]["code"]) == (504, "deadline_exceeded")
        await until(lambda: home.engine.broken_off == 1)
        home.engine.let()
        assert (await home.expand("b")).status_code == 200


async def test_what_a_client_leaves_behind_is_dropped():
    async with house() as home:
        running = home.expand("a")
        await until(lambda: home.engine.batches == ["a"])
        waiting = home.expand("b")
        await until(lambda: home.runtime.sampling_dispatcher.queued_items == 1)
        waiting.cancel()
        await until(lambda: home.runtime.sampling_dispatcher.queued_items == 0)
        assert await home.metric('opera_dropped_samplings_total{reason="abandoned"}') == 1
        running.cancel()
        await until(lambda: home.engine.broken_off == 1)
        home.engine.let()
        assert (await home.expand("c")).status_code == 200
        assert home.engine.batches == ["a", "c"]


async def test_one_that_left_does_not_break_off_its_neighbours():
    async with house(batch=200) as home:
        first = home.expand("a")
        await until(lambda: home.engine.batches == ["a"])
        leaving, staying = home.expand("b"), home.expand("c")
        await until(lambda: home.runtime.sampling_dispatcher.queued_items == 2)
        home.engine.let(1)
        await until(lambda: [sorted(batch) for batch in home.engine.batches] == [["a"], ["b", "c"]])
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        home.engine.let()
        assert [(await one).status_code for one in (first, staying)] == [200, 200]
        assert home.engine.broken_off == 0


@pytest.mark.parametrize("items", [1, 3])
async def test_waiting_is_on_the_bill(items: int):
    async with house() as home:
        first = home.expand("a")
        await until(lambda: home.engine.batches == ["a"])
        second = home.expand("b", items=items)
        await until(lambda: home.runtime.sampling_dispatcher.queued_items == items)
        await asyncio.sleep(0.05)
        home.engine.let()
        await first
        timing = (await second).json()["timing_ms"]
        assert timing["queue"] >= 50
        assert timing["generate"] > 0
