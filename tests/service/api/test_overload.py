"""A full queue over HTTP: who is refused, what they are told, and that what they were told works."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
import pytest

from opera_client import AsyncRewardClient
from opera_service.engines.dummy import DummyEngine
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import TokenTree
from opera_service.server import backends
from opera_service.server.app import create_app
from opera_service.server.backends import Backend
from opera_service.server.settings import Settings
from opera_service.trajectories.byte_tokenizer import ByteTokenizer
from opera_service.trajectories.tokenizer import Tokenizer

from ..app import AppClient, opened
from ..until import until
from .conftest import group


class Gated(DummyEngine):
    """The dummy engine, which computes only as many batches as it is let, and remembers their sizes."""

    def __init__(self) -> None:
        super().__init__(ByteTokenizer.vocab_size)
        self.stop()
        self.batches: list[int] = []

    def let(self, batches: int = 1000) -> None:
        for _ in range(batches):
            self._permits.release()

    def stop(self) -> None:
        self._permits = asyncio.Semaphore(0)

    async def score(self, trees: Sequence[TokenTree]) -> list[TreeScores]:
        self.batches.append(len(trees))
        await self._permits.acquire()
        return await super().score(trees)


class House:
    """A service on a gated engine, and a client of it."""

    def __init__(self, client: AppClient, engine: Gated) -> None:
        self.client, self.runtime, self.engine = client, client.runtime, engine

    def ask(self, path: str = "/reward", body: dict | None = None, **fields) -> asyncio.Task[httpx.Response]:
        body = {"groups": [group()], **fields} if body is None else body
        return asyncio.create_task(self.client.post(path, json=body))

    async def fill(self, waiting: int = 1, **fields) -> list[asyncio.Task[httpx.Response]]:
        """One request on the engine, and so many behind it."""
        before = len(self.engine.batches)
        tasks = [self.ask(**fields)]
        await until(lambda: len(self.engine.batches) > before)
        tasks += [self.ask(**fields) for _ in range(waiting)]
        await until(lambda: self.runtime.tree_dispatcher.queued_items == waiting)
        return tasks

    def groups_failed(self) -> int:
        return self.runtime.gatherer.state.counts.failed

    async def metric(self, name: str) -> float:
        lines = (await self.client.get("/metrics")).text.splitlines()
        return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} "))


@asynccontextmanager
async def house(status: int = 429, tokenizer: Tokenizer | None = None, **settings: int) -> AsyncIterator[House]:
    engine = Gated()
    backend = Backend(engine, tokenizer or ByteTokenizer())
    async with opened(backend, overload_status=str(status), cache_mb=0, **settings) as client:
        try:
            yield House(client, engine)
        finally:
            engine.let()


@pytest.mark.parametrize("status", [429, 503])
async def test_past_the_limit_of_requests(status: int):
    async with house(status, max_queue_requests=1) as home:
        let_in = await home.fill()
        refused = await home.ask()
        error = refused.json()["error"]
        assert (refused.status_code, error["code"], error["retryable"]) == (status, "overloaded", True)
        assert int(refused.headers["Retry-After"]) >= 1
        assert refused.headers["X-Request-Id"] == error["request_id"]
        assert await home.metric('opera_rejected_total{reason="queue_requests"}') == 1
        assert await home.metric("opera_queue_requests") == 1
        home.engine.let()
        assert [(await task).status_code for task in let_in] == [200, 200]
        assert (await home.ask()).status_code == 200
        assert await home.metric("opera_queue_requests") == 0
        assert await home.metric("opera_drain_tokens_per_second") > 0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/rank", {"items": [{"prompt": "2+2=", "candidates": ["4", "5"]}]}),
        ("/expand", {"items": [{"prompt": "2+2=", "max_tokens": 2}]}),
        ("/score", {"items": [{"context": "2+2=", "target": "4"}]}),
        ("/v1/completions", {"prompt": "ab", "max_tokens": 0}),
    ],
)
async def test_every_scoring_route_asks_for_a_place(path: str, body: dict):
    async with house(max_queue_requests=1) as home:
        await home.fill()
        refused = await home.ask(path, body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")


async def test_past_the_limit_of_tokens():
    async with opened() as client:
        size = (await client.post("/reward", json={"groups": [group()]})).json()["usage"]["tokens_computed"]
    async with house(max_queue_tokens=size + 50) as home:
        await home.fill()
        assert await home.metric("opera_queue_tokens") == size
        refused = await home.ask()
        assert refused.status_code == 429
        assert await home.metric('opera_rejected_total{reason="queue_tokens"}') == 1
        small = home.ask("/score", {"items": [{"context": "a", "target": "b"}]})
        await until(lambda: home.runtime.tree_dispatcher.queued_items == 2)
        home.engine.let()
        assert (await small).status_code == 200


async def test_a_refused_request_is_not_tokenised():
    class Watched(ByteTokenizer):
        asked = 0

        def encode(self, text: str):
            Watched.asked += 1
            return super().encode(text)

    async with house(tokenizer=Watched(), max_queue_requests=1) as home:
        let_in = await home.fill()
        before = Watched.asked
        assert (await home.ask()).status_code == 429
        assert Watched.asked == before
        late = await home.client.post(
            "/reward", json={"groups": [group()]}, headers={"X-Request-Deadline": str(time.time() - 1)}
        )
        assert late.status_code == 429, "a full queue comes first"
        home.engine.let()
        await asyncio.gather(*let_in)
        late = await home.client.post(
            "/reward", json={"groups": [group()]}, headers={"X-Request-Deadline": str(time.time() - 1)}
        )
        assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
        assert Watched.asked == before


async def test_one_run_s_backlog_does_not_keep_another_one_out():
    async with house(max_queue_requests=4, max_batch_tokens=1) as home:
        await home.fill(waiting=4, run_id="greedy")
        assert (await home.ask(run_id="modest")).status_code == 429
        home.engine.let(1)
        await until(lambda: home.runtime.tree_dispatcher.queued_requests == 3)
        assert (await home.ask(run_id="greedy")).status_code == 429
        modest = home.ask(run_id="modest")
        await until(lambda: home.runtime.tree_dispatcher.queued_requests == 4)
        assert await home.metric('opera_rejected_total{reason="fair_share"}') == 1
        home.engine.let()
        assert (await modest).status_code == 200


async def test_a_deadline_that_cannot_be_met_is_refused_at_once():
    async with house() as home:
        home.engine.let()
        home.engine.seconds_per_token = 1e-3
        assert (await home.ask()).status_code == 200  # now the rate is known: a tenth of a second a request
        home.engine.stop()
        await home.fill(waiting=8)
        refused = await home.ask(timeout_s=0.5)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
        assert await home.metric('opera_rejected_total{reason="deadline"}') == 1
        late = await home.client.post(
            "/reward", json={"groups": [group()]}, headers={"X-Request-Deadline": str(time.time() + 0.5)}
        )
        assert late.status_code == 429


async def test_a_group_that_finds_the_queue_full_keeps_its_members():
    async with house(max_queue_requests=1) as home:
        let_in = await home.fill()
        bodies = [
            {
                "group_id": "g", "group_size": 2, "member_id": name, "prompt": "2+2=", "reference": "4",
                "response": f"<think>\n{name}\n\n</think>\n\n4",
            }
            for name in "ab"
        ]  # fmt: skip
        answers = await asyncio.gather(*(home.ask("/reward/member", body) for body in bodies))
        for answer in answers:
            assert (answer.status_code, answer.json()["error"]["code"]) == (429, "overloaded")
            assert int(answer.headers["Retry-After"]) >= 1
        home.engine.let()
        await asyncio.gather(*let_in)
        again = await asyncio.gather(*(home.ask("/reward/member", body) for body in bodies))
        assert [one.json()["group_size_seen"] for one in again] == [2, 2]


async def test_openrlhf_waits_a_full_queue_out():
    """Its client takes no refusal for an answer."""
    async with house(max_queue_requests=1) as home:
        let_in = await home.fill()
        body = {"query": ["2+2=4"], "prompts": ["2+2="], "labels": ["4"]}
        asked = home.ask("/openrlhf/reward?group_size=1&wait_s=5", body)
        await until(lambda: home.groups_failed() == 1)
        assert not asked.done()
        home.engine.let()
        answer = await asked
        assert (answer.status_code, answer.json()["extra_logs"]["opera_failed"]) == (200, 0.0)
        await asyncio.gather(*let_in)


async def test_while_the_model_loads_callers_are_told_when_to_come_back(monkeypatch: pytest.MonkeyPatch):
    loaded = threading.Event()
    monkeypatch.setattr(backends, "load_backend", lambda *_: loaded.wait())
    app = create_app(Settings(engine="dummy"), wait=False)
    async with app.router.lifespan_context(app), AppClient(app) as client:
        answer = await client.post("/reward", json={"groups": [group()]})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
        assert int(answer.headers["Retry-After"]) >= 1


async def test_the_client_s_own_retries_end_with_every_reward():
    async with house(max_queue_requests=1) as home:
        home.engine.let()
        calls = [
            AsyncRewardClient(
                "http://app", transport=httpx.ASGITransport(home.client.app), concurrency=4, max_items=1, retries=0
            )
            for _ in range(2)
        ]
        groups = [group(group_id=str(number)) for number in range(4)]
        async with calls[0] as one, calls[1] as other:
            answers = await asyncio.gather(one.reward(groups), other.reward(groups))
        assert await home.metric('opera_rejected_total{reason="queue_requests"}') > 0, "it was full meanwhile"
        expected = (await home.ask(groups=groups)).json()["groups"]
        for answer in answers:
            assert answer.rewards == [[one["reward"] for one in each["trajectories"]] for each in expected]
