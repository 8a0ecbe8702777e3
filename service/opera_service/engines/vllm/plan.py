"""From token trees to the fewest prompts that score them, and back.

vLLM takes whole prompts and finds shared prefixes itself, so a tree becomes one prompt a query, equal ones
once. Knows no vLLM: ids in, arrays out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from opera_client.errors import ContextTooLong, TokenOutOfVocabulary
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import Ids, TokenTree


@dataclass(frozen=True)
class Prompt:
    """Score `ids[start:]`, each token given everything before it."""

    ids: Ids
    start: int
    """Tokens of context, at least 1."""
    top: int = 0
    """Most likely next tokens wanted at every scored row."""
    entropy: bool = False
    """Whether the entropy of every scored row is wanted."""
    tree: int = 0
    """The first tree that asks for it: it is the one that pays."""

    @property
    def rows(self) -> int:
        """Scored tokens."""
        return len(self.ids) - self.start


@dataclass(frozen=True)
class Rows:
    """What the engine read for one prompt."""

    logprobs: NDArray[np.float32]
    """float32[rows]."""
    computed: int
    """Tokens that went through the model."""
    top_ids: Ids | None = None
    """int32[rows, top]."""
    top_logprobs: NDArray[np.float32] | None = None
    """float32[rows, top]."""
    entropies: NDArray[np.float32] | None = None
    """float32[rows], in nats."""
    recomputed: bool = False
    """Whether the prefix cache was not read for it."""


class _Place(NamedTuple):
    prompt: int
    context: int


class Plan:
    """The prompts of some trees, and where each query finds its rows.

    Within a tree, those go first that are scored from the earliest token on, and of these the longest: a prompt
    reads the cache as far as its first scored row, so a trunk that is scored itself must not come after what hangs
    off it, or it is computed twice.
    """

    def __init__(self, trees: Sequence[TokenTree]) -> None:
        self._trees = trees
        self._places: list[list[_Place]] = []
        paths: dict[bytes, int] = {}
        prompts: list[Prompt] = []
        for number, tree in enumerate(trees):
            places = []
            for query in range(tree.num_queries):
                ids, context = tree.query_context(query)
                index = paths.setdefault(ids.tobytes(), len(prompts))
                if index == len(prompts):
                    prompts.append(Prompt(ids, context, tree.want_top, tree.want_entropy, number))
                else:
                    known = prompts[index]
                    prompts[index] = replace(
                        known,
                        start=min(known.start, context),
                        top=max(known.top, tree.want_top),
                        entropy=known.entropy or tree.want_entropy,
                    )
                places.append(_Place(index, context))
            self._places.append(places)
        self.prompts = prompts
        self.order = sorted(
            range(len(prompts)),
            key=lambda index: (prompts[index].tree, prompts[index].start, -len(prompts[index].ids)),
        )
        """Indices of `prompts` in the order they should reach the engine."""

    def check(self, *, vocab_size: int, max_context: int) -> None:
        """Raise ContextTooLong or TokenOutOfVocabulary for a prompt the model cannot take."""
        for prompt in self.prompts:
            if len(prompt.ids) > max_context:
                raise ContextTooLong(
                    f"context and target are {len(prompt.ids)} tokens, this engine takes {max_context}; "
                    "shorten them or raise --vllm.max_model_len"
                )
            largest, smallest = int(prompt.ids.max()), int(prompt.ids.min())
            if largest >= vocab_size or smallest < 0:
                raise TokenOutOfVocabulary(
                    f"token id {largest if smallest >= 0 else smallest} is outside the model's vocabulary of "
                    f"{vocab_size}; was it made by another tokenizer?"
                )

    def scores(self, rows: Sequence[Rows], weight_version: str) -> list[TreeScores]:
        """Put the rows of every prompt back into trees."""
        return [self._tree_scores(number, rows, weight_version) for number in range(len(self._trees))]

    def _tree_scores(self, number: int, rows: Sequence[Rows], weight_version: str) -> TreeScores:
        tree, top = self._trees[number], self._trees[number].want_top
        logprobs = np.empty(tree.num_scored, dtype=np.float32)
        top_ids = np.empty((tree.num_scored, top), dtype=np.int32)
        top_logprobs = np.empty((tree.num_scored, top), dtype=np.float32)
        entropies = np.empty(tree.num_scored, dtype=np.float32)
        for query, place in enumerate(self._places[number]):
            pairs, found = tree.query_slice(query), rows[place.prompt]
            skip = place.context - self.prompts[place.prompt].start
            logprobs[pairs] = found.logprobs[skip:]
            if top and found.top_ids is not None and found.top_logprobs is not None:
                top_ids[pairs] = found.top_ids[skip:, :top]
                top_logprobs[pairs] = found.top_logprobs[skip:, :top]
            if tree.want_entropy and found.entropies is not None:
                entropies[pairs] = found.entropies[skip:]
        own = [found for prompt, found in zip(self.prompts, rows, strict=True) if prompt.tree == number]
        return TreeScores(
            logprobs=logprobs,
            query_start=tree.query_start,
            weight_version=weight_version,
            tokens_computed=sum(found.computed for found in own),
            recomputed=sum(found.recomputed for found in own),
            entropies=entropies if tree.want_entropy else None,
            top_ids=top_ids if top else None,
            top_logprobs=top_logprobs if top else None,
        )
