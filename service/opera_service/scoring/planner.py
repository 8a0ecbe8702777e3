"""Puts independent queries on as few token trees as the budget allows, so that what they share is computed once.

It knows token ids; rewards, whose queries belong together, plan their own tree.
"""

from __future__ import annotations

from typing import NamedTuple

from opera_service.scoring.tree import ROOT, Ids, TokenTree, TreeBuilder


class Place(NamedTuple):
    """Where a query's numbers will be: `scores[tree].of(query)`."""

    tree: int
    query: int


class Planner:
    """Grows a tree until it holds `max_tokens` distinct tokens, then the next; neighbours share best."""

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._builders: list[TreeBuilder] = []

    def add(self, context: Ids, target: Ids) -> Place:
        """Ask for log p(target | context), token by token; both must hold at least one id."""
        if not self._builders or self._builders[-1].num_tokens >= self._max_tokens:
            self._builders.append(TreeBuilder())
        builder = self._builders[-1]
        return Place(len(self._builders) - 1, builder.score(builder.extend(ROOT, context), target))

    def build(self, *, want_entropy: bool = False, want_top: int = 0) -> list[TokenTree]:
        """Freeze all trees, none of them empty."""
        return [builder.build(want_entropy=want_entropy, want_top=want_top) for builder in self._builders]
