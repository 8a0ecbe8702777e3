"""The dummy engine: a bigram table simple enough to recompute by hand, for everything that needs no model.

    w(a, b) = 1 + ((a + 1) * (b + 1) + salt) mod 13          p(b | a) = w(a, b) / sum over c of w(a, c)

with c over the whole vocabulary. Only the last token of a context matters. Its weights are the one integer `salt`
from 0 to 12, at first 0: a safetensors file with an I64 scalar of that name. It knows no text.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from opera_client.errors import InvalidWeights
from opera_service.engines.base import EngineHealth, EngineInfo, Generation, GenerationRequest, Probe
from opera_service.engines.checkpoint import content_hash, read_headers, tensors_by_name
from opera_service.engines.vllm.read_write_lock import ReadWriteLock
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import Ids, TokenTree, as_ids

Floats = NDArray[np.float64]


def weights(previous: int, vocab_size: int, salt: int = 0) -> NDArray[np.int64]:
    """Return w(previous, b) for every b: integers from 1 to 13."""
    return 1 + ((np.int64(previous) + 1) * (np.arange(vocab_size, dtype=np.int64) + 1) + salt) % 13


def read_salt(source: Path) -> int:
    """Return the salt in a safetensors file or folder. Raises `InvalidWeights` for anything else in there."""
    files = read_headers(source)
    stored = tensors_by_name(files)
    if "salt" not in stored:
        raise InvalidWeights("tensor 'salt' is missing; the dummy engine's weights are that one integer")
    for name, tensor in stored.items():
        if name != "salt":
            raise InvalidWeights(f"tensor {name!r} is none of the model's; the dummy engine has only 'salt'")
        if tensor.shape not in ((), (1,)):
            raise InvalidWeights(f"tensor 'salt' has shape {list(tensor.shape)}, the model has []")
        if tensor.dtype != "I64":
            raise InvalidWeights(f"tensor 'salt' has dtype {tensor.dtype}, the model has I64")
    with files[0].path.open("rb") as file:
        file.seek(stored["salt"].begin)
        salt = int.from_bytes(file.read(8), "little", signed=True)
    if not 0 <= salt < 13:
        raise InvalidWeights(f"tensor 'salt' is {salt}; it goes from 0 to 12")
    return salt


class _Row(NamedTuple):
    """The next-token distribution after one token."""

    logprobs: Floats
    entropy: float
    best_first: Ids
    """All ids by descending probability, ties by id."""


class _Table:
    """The distributions of one weight version."""

    def __init__(self, vocab_size: int, version: str, salt: int = 0) -> None:
        self.version = version
        self._vocab_size, self._salt = vocab_size, salt
        self.row = lru_cache(maxsize=1024)(self._make_row)

    def _make_row(self, previous: int) -> _Row:
        table = weights(previous, self._vocab_size, self._salt)
        logprobs = np.log(table) - np.log(table.sum())
        entropy = float(-(np.exp(logprobs) * logprobs).sum())
        return _Row(logprobs, entropy, as_ids(np.argsort(-table, kind="stable")))


class DummyEngine:
    """Scores with the bigram table, in float64, optionally as slowly as asked.

    `seconds_per_token` sleeps (never computes) that long for every fed token, for load tests.
    """

    def __init__(
        self,
        vocab_size: int,
        *,
        max_context: int = 32768,
        max_batch_tokens: int = 65536,
        seconds_per_token: float = 0.0,
        weight_version: str = "0",
    ) -> None:
        self._info = EngineInfo(
            engine="dummy",
            model="dummy",
            revision="bigram-13",
            weight_version=weight_version,
            dtype="float64",
            vocab_size=vocab_size,
            max_context=max_context,
            max_batch_tokens=max_batch_tokens,
            route="table",
        )
        self.seconds_per_token = seconds_per_token
        self._table = _Table(vocab_size, weight_version)
        self._gate = ReadWriteLock()
        """Closed while new weights are on trial: nothing is scored meanwhile, as on a device."""

    @property
    def info(self) -> EngineInfo:
        """The table's limits."""
        return self._info

    async def score(self, trees: Sequence[TokenTree]) -> list[TreeScores]:
        """Look every pair up; sleeps `seconds_per_token` for each distinct token."""
        async with self._gate.using():
            table = self._table
            await asyncio.sleep(self.seconds_per_token * sum(tree.num_tokens for tree in trees))
            return [self._score_one(table, tree) for tree in trees]

    async def generate(self, requests: Sequence[GenerationRequest]) -> list[list[Generation]]:
        """Sample from the table; continuation i of a request draws from `default_rng([seed, i])`."""
        table = self._table
        tokens = sum(request.n * request.max_tokens for request in requests)
        await asyncio.sleep(self.seconds_per_token * tokens)
        return [[self._sample(table, request, index) for index in range(request.n)] for request in requests]

    async def load_weights(self, source: Path, version: str, *, probe: Probe | None = None) -> None:
        """Take another salt. Raises `InvalidWeights` naming the tensor."""
        table = _Table(self._info.vocab_size, version, await asyncio.to_thread(read_salt, source))
        revision = await asyncio.to_thread(content_hash, source)
        async with self._gate.swapping():
            if probe is not None:
                await asyncio.to_thread(probe.judge, self._score_one(table, probe.tree))
            self._table, self._info = table, replace(self._info, weight_version=version, revision=revision)

    async def drop_adapter(self) -> None:
        """Do nothing; there are no adapters."""

    def health(self) -> EngineHealth:
        """Report that all is well; there is nothing to fail."""
        return EngineHealth(ok=True)

    async def aclose(self) -> None:
        """Do nothing; there is no device."""

    @staticmethod
    def _score_one(table: _Table, tree: TokenTree) -> TreeScores:
        rows = [table.row(int(token)) for token in tree.tokens[tree.rows]]
        logprobs = np.array([row.logprobs[target] for row, target in zip(rows, tree.targets, strict=True)])
        top = np.stack([row.best_first[: tree.want_top] for row in rows]) if tree.want_top else None
        return TreeScores(
            logprobs=logprobs,
            query_start=tree.query_start,
            weight_version=table.version,
            tokens_computed=tree.num_tokens,
            entropies=np.array([row.entropy for row in rows]) if tree.want_entropy else None,
            top_ids=top,
            top_logprobs=None
            if top is None
            else np.stack([row.logprobs[ids] for row, ids in zip(rows, top, strict=True)]),
        )

    def _sample(self, table: _Table, request: GenerationRequest, index: int) -> Generation:
        rng = np.random.default_rng(None if request.seed is None else [request.seed, index])
        previous = int(request.prompt_ids[-1])
        found: list[int] = []
        while len(found) < request.max_tokens:
            previous = self._draw(table.row(previous), request, rng)
            found.append(previous)
            if previous in request.stop_ids:
                return Generation(as_ids(found), "stop", table.version)
            if request.enough is not None and request.enough(found):
                return Generation(as_ids(found), "enough", table.version)
        return Generation(as_ids(found), "length", table.version)

    @staticmethod
    def _draw(row: _Row, request: GenerationRequest, rng: np.random.Generator) -> int:
        ids = row.best_first
        if request.temperature == 0:
            return int(ids[0])
        if request.top_k:
            ids = ids[: request.top_k]
        scaled = row.logprobs[ids] / request.temperature
        probabilities = np.exp(scaled - scaled.max())
        probabilities /= probabilities.sum()
        # The smallest set that reaches top_p: keep every id before which less than top_p has been collected.
        kept = np.cumsum(probabilities) - probabilities < request.top_p
        ids, probabilities = ids[kept], probabilities[kept]
        return int(rng.choice(ids, p=probabilities / probabilities.sum()))
