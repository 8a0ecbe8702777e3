"""The policy: which weights serve, since when, and how others take their place. One load at a time.

A canary, one fixed text, is scored before and after every load: new weights that are not finite on it, or not
what their sender says they are, never serve. Knows engines and token ids; no HTTP, no files.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from opera_client.errors import (
    CanaryMismatch,
    InvalidRequest,
    InvalidWeights,
    PolicyBusy,
    WeightVersionMismatch,
    WeightVersionTaken,
)
from opera_client.wire import Canary, PolicyInfo, PolicyLoadResult
from opera_service.engines.adapter import adapter_revision, has_adapter, is_adapter
from opera_service.engines.base import Engine, Probe
from opera_service.engines.checkpoint import content_hash
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import ROOT, TreeBuilder, as_ids
from opera_service.trajectories.tokenizer import Tokenizer

CANARY_TEXT = (
    "The quick brown fox jumps over the lazy dog. 12 + 30 = 42, so the answer is 42.\n\n"
    "Wait, let me check that again: 12 + 30 is 42."
)
_CANARY_TOKENS = 128
_REMEMBERED = 4096


@dataclass(frozen=True)
class _Served:
    """Weights that serve or served."""

    revision: str
    loaded_at: datetime


class WeightManager:
    """The weights of one engine. Used from one event loop."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer, *, tolerance: float = 0.05) -> None:
        self._engine = engine
        self._tolerance = tolerance
        info = engine.info
        ids = tokenizer.encode(CANARY_TEXT)[: min(_CANARY_TOKENS, info.max_context)]
        self._ids = ids if len(ids) > 1 else as_ids([0, 0])
        builder = TreeBuilder()
        builder.score(builder.extend(ROOT, self._ids[:1]), self._ids[1:])
        self._tree = builder.build()
        self._text = CANARY_TEXT if len(ids) > 1 else ""
        self._canary: tuple[str, float] | None = None
        self._served: dict[str, _Served] = {}
        self._busy = False
        self._remember()

    def revision_of(self, version: str) -> str | None:
        """Return the content of a version that serves or served, if it is still remembered."""
        self._remember()
        known = self._served.get(version)
        return known.revision if known else None

    async def info(self) -> PolicyInfo:
        """Describe the weights that serve."""
        known = self._canary
        if known is None or known[0] != self._engine.info.weight_version:
            known = await self._canary_now()
        return self._describe(*known)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold the right to load. Raises `PolicyBusy` when somebody else does."""
        if self._busy:
            error = PolicyBusy("other weights are being loaded; wait for that load and push again")
            error.retry_after = 1.0
            raise error
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    async def load(
        self,
        source: Path,
        version: str,
        *,
        revision: str | None = None,
        canary_logprob: float | None = None,
        agree: Callable[[], None] | None = None,
    ) -> PolicyLoadResult:
        """Serve the weights at `source` as `version`; the caller holds the turn.

        The folder of a LoRA adapter serves on top of the last whole weights. `revision` is their hash, where it is
        known. `canary_logprob` is the sender's own number. `agree` is asked last, when the weights have passed and
        only the swap is left; it may wait, and raises to refuse them.
        Loading what serves already, under the same version, changes nothing. Raises `WeightVersionTaken`,
        `CanaryMismatch`, and what `Engine.load_weights` raises; then the old weights serve on.
        """
        started = time.monotonic()
        previous, before = await self._canary_now()
        if await self._serves(source, version, revision):
            self._compare(before, canary_logprob)
            return self._result(version, before, previous, before, changed=False, started=started)
        after = before

        def judge(scores: TreeScores) -> None:
            nonlocal after
            if not scores.finite:
                raise InvalidWeights("on these weights the canary's log-probability is not finite")
            after = _mean(scores)
            self._compare(after, canary_logprob)
            if agree is not None:
                agree()

        await self._engine.load_weights(source, version, probe=Probe(self._tree, judge))
        self._served.pop(version, None)  # loaded again: from now on
        self._remember()
        self._canary = (version, after)
        return self._result(version, after, previous, before, changed=True, started=started)

    async def unload(self, version: str) -> PolicyLoadResult:
        """Serve the weights under the adapter `version` again; the caller holds the turn.

        Raises `WeightVersionMismatch` when it does not serve, `InvalidRequest` when it is no adapter.
        """
        started = time.monotonic()
        previous, before = await self._canary_now()
        if previous != version:
            raise WeightVersionMismatch(
                f"the adapter {version!r} does not serve, {previous!r} does", field="lora_name"
            )
        if not has_adapter(self._engine.info.revision):
            raise InvalidRequest(f"{version!r} is no adapter; load other weights in its place", field="lora_name")
        await self._engine.drop_adapter()
        now, after = await self._canary_now()
        return self._result(now, after, previous, before, changed=True, started=started)

    async def _serves(self, source: Path, version: str, revision: str | None) -> bool:
        """Whether these weights serve now. Raises `WeightVersionTaken` when the version names others."""
        known = self.revision_of(version)
        if known is None:
            return False
        if known != (revision or await asyncio.to_thread(self._revision, source)):
            raise WeightVersionTaken(
                f"weight version {version!r} names other weights ({known[:23]}…); "
                "give every set of weights a version of its own",
                field="weight_version",
            )
        return version == self._engine.info.weight_version

    def _revision(self, source: Path) -> str:
        """Return what would serve: an adapter is one with what is under it."""
        if is_adapter(source):
            return adapter_revision(self._engine.info.revision, source)
        return content_hash(source)

    def _compare(self, number: float, sent: float | None) -> None:
        if sent is not None and not abs(number - sent) <= self._tolerance:
            raise CanaryMismatch(
                f"the canary's mean log-probability is {number:.6f} on these weights, but {sent:.6f} where they "
                f"come from, further apart than {self._tolerance:g} nats; compare the tensors that were sent with "
                "the model's, and its number with that of the token ids at GET /policy",
                field="canary_logprob",
            )

    async def _canary_now(self) -> tuple[str, float]:
        """Score the canary on whatever serves; return that version, too."""
        self._remember()
        (scores,) = await self._engine.score([self._tree])
        self._remember()
        self._canary = (scores.weight_version, _mean(scores))
        return self._canary

    def _remember(self) -> None:
        """Note what serves: also weights that came by another way than this one."""
        info = self._engine.info
        known = self._served.get(info.weight_version)
        if known is None or known.revision != info.revision:
            self._served[info.weight_version] = _Served(info.revision, datetime.now(UTC))
            while len(self._served) > _REMEMBERED:
                del self._served[next(iter(self._served))]

    def _describe(self, version: str, number: float) -> PolicyInfo:
        served = self._served.get(version) or _Served("unknown", datetime.now(UTC))
        return PolicyInfo(
            name=self._engine.info.model,
            revision=served.revision,
            weight_version=version,
            loaded_at=served.loaded_at,
            canary=Canary(text=self._text, token_ids=self._ids.tolist(), mean_logprob=number),
        )

    def _result(
        self, version: str, number: float, previous: str, before: float, *, changed: bool, started: float
    ) -> PolicyLoadResult:
        return PolicyLoadResult(
            **self._describe(version, number).model_dump(),
            previous_version=previous,
            canary_before=before,
            changed=changed,
            load_s=time.monotonic() - started,
        )


def _mean(scores: TreeScores) -> float:
    return float(scores.of(0).mean(dtype=np.float64))
