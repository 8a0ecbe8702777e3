"""The same `/reward` request twice over HTTP: what is computed and remembered, and another engine's numbers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import uvicorn

from opera_service.engines.base import Engine
from opera_service.server.app import create_app
from opera_service.server.backends import Backend
from opera_service.server.settings import Settings
from opera_service.trajectories.byte_tokenizer import ByteTokenizer
from scoring_work import PROMPT


@dataclass(frozen=True)
class Served:
    """One group on the first engine, the same again, and on the second engine."""

    distinct: int
    computed: int
    seconds: float
    computed_again: int
    seconds_again: float
    reward_difference: float
    """The largest between the engines."""
    logprob_difference: float

    def __str__(self) -> str:
        return (
            f"POST /reward: {self.computed} tokens computed for {self.distinct} distinct ones"
            f" ({self.computed / self.distinct:.3f}) in {self.seconds:.2f} s; the same again {self.computed_again}"
            f" ({self.computed_again / self.distinct:.3f}) in {self.seconds_again:.3f} s."
            f" From the torch engine: rewards {self.reward_difference:.1e},"
            f" mean log-probabilities {self.logprob_difference:.1e}"
        )


def group(point: tuple[int, ...]) -> dict[str, Any]:
    """Return a group whose responses are paragraphs of random letters; a token is a byte."""
    responses, boundaries, length, reference = point
    rng = np.random.default_rng(list(point))

    def letters(count: int) -> str:
        return bytes(rng.integers(97, 123, count).tolist()).decode()

    def response() -> str:
        thoughts = (f"Wait, {letters(length // boundaries - 8)}\n\n" for _ in range(boundaries))
        return f"<think>\n{''.join(thoughts)}</think>\n\nSo."

    members = [{"response": response()} for _ in range(responses)]
    return {"prompt": letters(PROMPT), "reference": letters(reference), "trajectories": members}


async def compare(engine: Engine, other: Engine, point: tuple[int, ...]) -> Served:
    """Ask the service on `engine` twice and the one on `other` once. Engines stay open."""
    body = {"groups": [group(point)], "detail": "segments"}
    async with _served(engine) as client:
        await _ask(client, {"groups": [group((*point[:3], point[3] + 1))]})  # first-run costs
        first, seconds = await _ask(client, body)
        again, seconds_again = await _ask(client, body)
    async with _served(other) as client:
        exact, _ = await _ask(client, body)
    if again["groups"] != first["groups"]:
        raise RuntimeError("the repeat has other numbers")
    return Served(
        distinct=exact["usage"]["tokens_computed"],
        computed=first["usage"]["tokens_computed"],
        seconds=seconds,
        computed_again=again["usage"]["tokens_computed"],
        seconds_again=seconds_again,
        reward_difference=_largest_difference(first, exact, "reward"),
        logprob_difference=_largest_difference(first, exact, "mean_logprob"),
    )


@asynccontextmanager
async def _served(engine: Engine) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Settings(engine="dummy"), backend=Backend(engine, ByteTokenizer()))
    app.state.lifecycle.start()
    runtime = await app.state.lifecycle.ready()
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_level="warning", lifespan="off")
    )  # the engine is closed elsewhere
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  uvicorn tells nobody
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=600) as client:
        yield client
    server.should_exit = True
    await serving
    await runtime.tree_dispatcher.aclose()


async def _ask(client: httpx.AsyncClient, body: dict[str, Any]) -> tuple[dict[str, Any], float]:
    began = time.perf_counter()
    answer = await client.post("/reward", json=body)
    answer.raise_for_status()
    return answer.json(), time.perf_counter() - began


def _largest_difference(one: dict[str, Any], other: dict[str, Any], name: str) -> float:
    pairs = zip(_named(one["groups"], name), _named(other["groups"], name), strict=True)
    return max(abs(mine - theirs) for mine, theirs in pairs)


def _named(value: object, name: str) -> list[float]:
    """Return every number under `name`, wherever it is."""
    if isinstance(value, dict):
        own = [value[name]] if isinstance(value.get(name), float) else []
        return own + [found for one in value.values() for found in _named(one, name)]
    return [found for one in value for found in _named(one, name)] if isinstance(value, list) else []
