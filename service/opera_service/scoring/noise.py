"""How far an engine's log-probs are off: the same numbers asked alone and in company.

Half precision rounds by what else is computed beside a token. Differences below this say nothing about a response.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import numpy as np

from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import ROOT, TokenTree, TreeBuilder

_TRUNK, _BRANCHES, _BRANCH, _TARGET = 48, 6, 24, 16
HALF = ("bfloat16", "float16")
"""Types whose error can reach what separates two responses; others are exact to 1e-4 nats."""


Score = Callable[[Sequence[TokenTree]], Awaitable[Sequence[TreeScores]]]


class EngineNoise:
    """The error of one engine's log-probs, measured once: at start-up, or when it is first asked for."""

    def __init__(self, score: Score, dtype: str, *, vocab_size: int, max_context: int) -> None:
        self._score, self._size = score, (vocab_size, max_context)
        self._error = None if dtype in HALF else 0.0
        self._measuring = asyncio.Lock()

    async def logprob_error(self) -> float:
        """Return the error in nats a token; 0 where the dtype has none that matters."""
        async with self._measuring:
            if self._error is None:
                self._error = await measured_error(self._score, *self._size)
        return self._error


async def measured_error(score: Score, vocab_size: int, max_context: int) -> float:
    """Return the root mean square difference, in nats a token, of numbers asked alone and in one tree."""
    short = max(1, min(_TRUNK, max_context - _BRANCH - _TARGET - 1))
    ids = np.random.default_rng(7).integers(0, vocab_size, (_BRANCHES, short + _BRANCH + _TARGET))
    ids[:, :short] = ids[0, :short]
    group = TreeBuilder()
    alone: list[TokenTree] = []
    for path in ids:
        for builder in (group, single := TreeBuilder()):
            builder.score(builder.extend(ROOT, path[:-_TARGET]), path[-_TARGET:])
        alone.append(single.build())
    together, *apart = await score([group.build(), *alone])
    found = np.concatenate([np.asarray(together.of(at), dtype=np.float64) for at in range(_BRANCHES)])
    expected = np.concatenate([np.asarray(one.of(0), dtype=np.float64) for one in apart])
    return float(np.sqrt(np.mean((found - expected) ** 2)))
