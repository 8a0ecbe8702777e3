"""Two engines as one: the served model, whose weights may move, and a frozen second one with the same tokens.

A tree's own queries go to the first, those of `TokenTree.second` to the second, both at once. Knows no model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from opera_service.engines.base import Engine, EngineHealth, EngineInfo, Generation, GenerationRequest, Probe
from opera_service.engines.supervisor import Supervisor
from opera_service.failures import or_raise
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import TokenTree


class PairEngine:
    """`Engine` of the first model that asks a second one, too. It closes both."""

    def __init__(self, first: Engine, second: Engine) -> None:
        self.first, self.second = first, second

    @property
    def left_behind(self) -> int:
        """Engines that hang in this process; see `Supervisor`."""
        return sum(one.left_behind for one in (self.first, self.second) if isinstance(one, Supervisor))

    @property
    def info(self) -> EngineInfo:
        """The first one's, with limits that fit both."""
        own, other = self.first.info, self.second.info
        return replace(
            own,
            vocab_size=min(own.vocab_size, other.vocab_size),
            max_context=min(own.max_context, other.max_context),
            max_batch_tokens=min(own.max_batch_tokens, other.max_batch_tokens),
            second=other,
        )

    async def score(self, trees: Sequence[TokenTree]) -> list[TreeScores]:
        """Fill every tree; `weight_version` is the first model's. Raises what either raises, after both ended."""
        asked = [tree.second for tree in trees if tree.second is not None]
        if not asked:
            return await self.first.score(trees)
        found = await asyncio.gather(self.first.score(trees), self.second.score(asked), return_exceptions=True)
        own, other = (or_raise(one) for one in found)
        answers = iter(other)
        return [
            scores if tree.second is None else _joined(scores, next(answers))
            for tree, scores in zip(trees, own, strict=True)
        ]

    async def generate(self, requests: Sequence[GenerationRequest]) -> list[list[Generation]]:
        """Sample from the first."""
        return await self.first.generate(requests)

    async def load_weights(self, source: Path, version: str, *, probe: Probe | None = None) -> None:
        """Load into the first; the second stays as it is."""
        await self.first.load_weights(source, version, probe=probe)

    async def drop_adapter(self) -> None:
        """Drop the first one's."""
        await self.first.drop_adapter()

    def health(self) -> EngineHealth:
        """Both must be well. The second one's numbers have `second_` before their names."""
        own, other = self.first.health(), self.second.health()
        detail = own.detail if not own.ok or other.ok else f"the second model: {other.detail}"
        return EngineHealth(
            ok=own.ok and other.ok,
            detail=detail,
            gauges={**own.gauges, **{f"second_{name}": value for name, value in other.gauges.items()}},
            stalled_s=max(own.stalled_s, other.stalled_s),
            hopeless=own.hopeless or other.hopeless,
        )

    async def aclose(self) -> None:
        """Close both, also when one of them fails to."""
        found = await asyncio.gather(self.first.aclose(), self.second.aclose(), return_exceptions=True)
        for one in found:
            if isinstance(one, BaseException):
                raise one


def _joined(own: TreeScores, other: TreeScores) -> TreeScores:
    return replace(own, second=other, tokens_computed=own.tokens_computed + other.tokens_computed)
