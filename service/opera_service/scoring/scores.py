"""What an engine answers for a token tree. Knows no model and no reward; refuses numbers that are none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from opera_client.errors import EngineFailed
from opera_service.scoring.tree import Ids


@dataclass(frozen=True)
class TreeScores:
    """What an engine answers for one tree: natural-log probabilities, float32 (float64 from a float64 engine).

    The numbers are as the model gave them, NaN and infinity included. Whoever reads a query (`of`, `entropies_of`,
    `top_of`) gets finite ones or `EngineFailed`: a bad number spoils what is computed from it, and nothing else.
    """

    logprobs: NDArray[np.floating]
    """[N]: log p(target | path to row), in the order of `TokenTree.targets`."""
    query_start: Ids
    """int32[Q + 1]: as in the tree."""
    weight_version: str
    """Version of the weights that produced every number here."""
    tokens_computed: int
    """Tokens that went through the model for this tree, padding excluded."""
    entropies: NDArray[np.floating] | None = None
    """[N]: entropy in nats of the full next-token distribution at the row, when asked."""
    top_ids: NDArray[np.int32] | None = None
    """int32[N, k]: most likely next tokens, best first, when asked."""
    top_logprobs: NDArray[np.floating] | None = None
    """[N, k]: their log-probabilities."""
    second: TreeScores | None = None
    """What a second model answered, where the tree asked one."""
    recomputed: int = 0
    """Contexts of the tree that a vLLM computed in full, without its prefix cache."""

    @property
    def finite(self) -> bool:
        """Whether every number is one."""
        found = (self.logprobs, self.entropies, self.top_logprobs)
        own = all(numbers is None or bool(np.isfinite(numbers).all()) for numbers in found)
        return own and (self.second is None or self.second.finite)

    @property
    def num_scored(self) -> int:
        """How many log-probabilities there are, a second model's included."""
        return len(self.logprobs) + (0 if self.second is None else len(self.second.logprobs))

    @property
    def of_second(self) -> TreeScores:
        """Return the second model's scores; raises ValueError when the tree did not ask it."""
        if self.second is None:
            raise ValueError("the tree asked no second model, or there is none")
        return self.second

    def of(self, query: int) -> NDArray[np.floating]:
        """Return the log-probabilities of `query`, one per target token."""
        return _finite(self.logprobs[self._pairs(query)])

    def entropies_of(self, query: int) -> NDArray[np.floating]:
        """Return the entropies of `query`; raises ValueError when the tree did not ask for them."""
        if self.entropies is None:
            raise ValueError("the tree was built without want_entropy")
        return _finite(self.entropies[self._pairs(query)])

    def top_of(self, query: int, count: int) -> tuple[NDArray[np.int32], NDArray[np.floating]]:
        """Return the `count` most likely ids of each row of `query` and their log-probabilities, best first.

        Raises ValueError when the tree did not ask for any.
        """
        if self.top_ids is None or self.top_logprobs is None:
            raise ValueError("the tree was built without want_top")
        pairs = self._pairs(query)
        return self.top_ids[pairs, :count], _finite(self.top_logprobs[pairs, :count])

    def part(self, queries: Sequence[int], query_start: Ids) -> TreeScores:
        """Return the scores of some queries, in their order, as those of a tree with `query_start`.

        The second model's are left out. Raises EngineFailed when one of the numbers is not finite.
        """
        pairs = np.concatenate([np.arange(self.query_start[q], self.query_start[q + 1]) for q in queries])

        def of(numbers: NDArray[np.floating] | None) -> NDArray[np.floating] | None:
            return None if numbers is None else _finite(numbers[pairs])

        return replace(
            self,
            logprobs=_finite(self.logprobs[pairs]),
            query_start=query_start,
            entropies=of(self.entropies),
            top_ids=None if self.top_ids is None else self.top_ids[pairs],
            top_logprobs=of(self.top_logprobs),
            second=None,
        )

    def _pairs(self, query: int) -> slice:
        return slice(int(self.query_start[query]), int(self.query_start[query + 1]))


NO_SCORES = TreeScores(np.zeros(0), np.zeros(1, np.int32), "", 0)
"""Of a tree that nobody planned."""


def _finite(numbers: NDArray[np.floating]) -> NDArray[np.floating]:
    if not np.isfinite(numbers).all():
        raise EngineFailed(
            "the model gave numbers that are not finite here; check its weights, or serve with --dtype float32 or"
            " bfloat16"
        )
    return numbers
