"""Part (c): the 8B shape as a service over HTTP, 16 clients, dynamic batching.

The batches that the service made are recorded and given to the bare engine again: served over bare is what HTTP,
reading, encoding and dispatching cost, on exactly the same work.
"""

from __future__ import annotations

import asyncio
import sys
import time
from statistics import median, quantiles
from typing import Any

from gpu.part import Part
from gpu.served import Answer, Clients, serving
from opera_service.engines.torch.engine import TorchEngine
from opera_service.engines.torch.route_by_size import MEASURE_S
from opera_service.engines.torch.scorer import TreeScorer
from opera_service.scoring.tree import TokenTree
from scoring_served import group
from scoring_work import make_model

CLIENTS = 16
GROUP = (2, 8, 1024, 64)
"""Responses, paragraphs each, response tokens, reference tokens."""
GROUPS, ROUNDS = 32, 3


def main() -> int:
    part = Part("over_http")
    asyncio.run(measure(part))
    part.finish()
    return 0


async def measure(part: Part) -> None:
    began = time.perf_counter()
    loaded = make_model("tiny" if part.dry else "8b", part.device.type)
    engine = Recording(TreeScorer(loaded, measure_s=MEASURE_S.get(part.device.type, 0.0)))
    ready = time.perf_counter() - began
    point, clients, groups = ((1, 2, 32, 4), 2, 3) if part.dry else (GROUP, CLIENTS, GROUPS)
    bodies = [{"groups": [group((*point[:3], point[3] + number % 4))]} for number in range(groups)]
    async with serving(engine) as url:
        first, *others = await sent(url, bodies[:5], 1)
        part.add(
            "first_reward",
            route=engine.info.route,
            model_ready_s=ready,
            first_reward_s=first.seconds,
            alone_ms=1e3 * median(answer.seconds for answer in others or [first]),
        )
        await sent(url, bodies, clients)  # compiles what batches of this size need
        for _ in range(1 if part.dry else ROUNDS):
            if not part.has(10):
                break
            engine.batches.clear()
            answers = await sent(url, bodies, clients)
            served = max(answer.ended for answer in answers) - min(answer.began for answer in answers)
            batches = list(engine.batches)
            bare = await replayed(engine, batches)
            tokens = sum(tree.num_tokens for batch in batches for tree in batch)
            times = [1e3 * answer.seconds for answer in answers]
            cuts = quantiles(times, n=20)
            part.add(
                "served",
                clients=clients,
                groups=groups,
                tokens=tokens,
                batches=len(batches),
                trees_a_batch=sum(map(len, batches)) / len(batches),
                served_s=served,
                bare_s=bare,
                served_over_bare=served / bare,
                tokens_per_s=tokens / served,
                p50_ms=median(times),
                p95_ms=cuts[18],
            )


class Recording(TorchEngine):
    """Remembers which trees it was given together."""

    def __init__(self, scorer: TreeScorer) -> None:
        super().__init__(scorer)
        self.batches: list[list[TokenTree]] = []

    async def score(self, trees: Any) -> Any:
        self.batches.append(list(trees))
        return await super().score(trees)


async def sent(url: str, bodies: list[dict[str, Any]], clients: int) -> list[Answer]:
    """Return all answers. Raises RuntimeError unless all are good."""
    async with Clients(url, bodies, clients) as sending:
        answers = await sending.answers()
    if len(answers) != len(bodies) or any(answer.status != 200 for answer in answers):
        raise RuntimeError(f"statuses {[answer.status for answer in answers]} for {len(bodies)} requests")
    return answers


async def replayed(engine: TorchEngine, batches: list[list[TokenTree]]) -> float:
    began = time.perf_counter()
    for batch in batches:
        await engine.score(batch)
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
