"""Scores token trees on one model, synchronously: packs them to a token budget, halves it when memory ends.

The heart of the torch engine, free of asyncio, so that tests and benchmarks call it directly. Must only be used
from one thread at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from opera_client.errors import ContextTooLong, EngineFailed, EngineOutOfMemory, TokenOutOfVocabulary
from opera_service.engines.torch.kept_trunks import KeptTrunksRoute
from opera_service.engines.torch.loading import LoadedModel
from opera_service.engines.torch.memory import out_of_memory
from opera_service.engines.torch.naive import NaiveRoute
from opera_service.engines.torch.packed_batch import join
from opera_service.engines.torch.readout import Head, Readout
from opera_service.engines.torch.routes import choose_route
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import TokenTree

DEFAULT_TOKENS = {"cpu": 2048, "cuda": 65536}
MIN_TOKENS = 16
"""Forwards are halved down to this many tokens, not further."""


class TreeScorer:
    """One model, one route, a budget of tokens for one forward."""

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        route: str = "auto",
        max_batch_tokens: int | None = None,
        weight_version: str = "0",
        measure_s: float = 0.0,
    ) -> None:
        """Choose a route as `choose_route` does, which `measure_s` is for.

        Raises `NotSupported` when `route` is unknown or wrong for this model.
        """
        if max_batch_tokens is not None and max_batch_tokens < 1:
            raise ValueError("max_batch_tokens must be at least 1")
        self.loaded = loaded
        self.weight_version = weight_version
        self.max_batch_tokens = max_batch_tokens or DEFAULT_TOKENS.get(loaded.device.type, 4096)
        self.head = Head(loaded.model)
        with torch.inference_mode():
            self.route = choose_route(
                loaded, self.head, route, max_tokens=self.max_batch_tokens, measure_s=measure_s
            )

    def score(self, trees: Sequence[TokenTree]) -> list[TreeScores]:
        """Fill every tree, in order.

        Raises `TokenOutOfVocabulary` or `ContextTooLong` before anything is computed, `EngineOutOfMemory` when
        even small forwards do not fit.
        """
        for number, tree in enumerate(trees):
            self._check(number, tree)
        scores: dict[int, TreeScores] = {}
        for bundle in pack([tree.num_tokens for tree in trees], self.max_batch_tokens):
            scores.update(zip(bundle, self._forest([trees[index] for index in bundle]), strict=True))
        return [scores[index] for index in range(len(trees))]

    def forget(self) -> None:
        """Drop what the route keeps between calls: the weights are others now, or memory ran out."""
        if isinstance(self.route, KeptTrunksRoute):
            self.route.forget()

    def _check(self, number: int, tree: TokenTree) -> None:
        low = min(int(tree.tokens.min()), int(tree.targets.min()))
        high = max(int(tree.tokens.max()), int(tree.targets.max()))
        if low < 0 or high >= self.loaded.vocab_size:
            raise TokenOutOfVocabulary(
                f"tree {number} holds the id {low if low < 0 else high}; {self.loaded.name} has ids"
                f" 0 to {self.loaded.vocab_size - 1}. Tokenise with this model's tokenizer"
            )
        if tree.max_length > self.loaded.max_context:
            raise ContextTooLong(
                f"tree {number} holds a context with target of {tree.max_length} tokens; {self.loaded.name} takes"
                f" {self.loaded.max_context}. Shorten it"
            )

    def _forest(self, trees: Sequence[TokenTree]) -> list[TreeScores]:
        batch = join(trees)
        budget = self.max_batch_tokens
        while True:
            try:
                with torch.inference_mode():
                    readout = Readout(batch, self.head, self.loaded.model.dtype)
                    self.route.run(readout, budget)
                    self._isolate(readout, budget)
                break
            except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                failure = str(error)
            self.forget()  # what a route keeps takes memory of every later try, too
            if self.loaded.device.type == "cuda":
                torch.cuda.empty_cache()
            budget = min(budget, batch.num_tokens)
            if budget <= MIN_TOKENS:
                raise EngineOutOfMemory(
                    f"{batch.num_tokens} tree tokens do not fit into the memory of {self.loaded.device} even"
                    f" {MIN_TOKENS} at a time ({failure.splitlines()[0]}); use a smaller dtype or shorter contexts"
                )
            budget = max(MIN_TOKENS, budget // 2)
        return self._split(trees, readout)

    def _isolate(self, readout: Readout, max_tokens: int) -> None:
        """Compute what is not finite once more, each context by itself.

        Attention multiplies what it masks by zero, and 0 * NaN is NaN: a token that makes NaN spoils rows of its
        run that never see it, and with those the rest of the tree.
        """
        if readout.pairs_read != readout.tree.num_scored:
            raise EngineFailed(f"route {self.route.name} left rows unread; report this")
        spoilt = readout.spoilt_queries()
        if spoilt and self.route.name != NaiveRoute.name:
            NaiveRoute(self.loaded.model).run_some(readout, max_tokens, spoilt)

    def _split(self, trees: Sequence[TokenTree], readout: Readout) -> list[TreeScores]:
        answers, low, first = [], 0, 0
        for tree in trees:
            pairs = slice(low, low + tree.num_scored)
            low = pairs.stop
            computed = tree.num_tokens
            if self.route.name == "naive":
                computed = tree.naive_tokens - tree.num_queries
            if readout.query_tokens is not None:
                computed = int(readout.query_tokens[first : first + tree.num_queries].sum())
            first += tree.num_queries
            answers.append(
                TreeScores(
                    logprobs=readout.logprobs[pairs],
                    query_start=tree.query_start,
                    weight_version=self.weight_version,
                    tokens_computed=computed,
                    entropies=_of(readout.entropies, pairs) if tree.want_entropy else None,
                    top_ids=_of(readout.top_ids, pairs, tree.want_top) if tree.want_top else None,
                    top_logprobs=_of(readout.top_logprobs, pairs, tree.want_top) if tree.want_top else None,
                )
            )
        return answers


def _of(numbers: np.ndarray | None, pairs: slice, top: int | None = None) -> np.ndarray | None:
    if numbers is None:
        return None
    return numbers[pairs] if top is None else numbers[pairs, :top]


def pack(sizes: Sequence[int], budget: int) -> list[list[int]]:
    """Return bundles of indices whose sizes sum to at most `budget`, first fit decreasing; giants stand alone."""
    bundles: list[tuple[int, list[int]]] = []
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        for number, (used, members) in enumerate(bundles):
            if used + sizes[index] <= budget:
                members.append(index)
                bundles[number] = (used + sizes[index], members)
                break
        else:
            bundles.append((sizes[index], [index]))
    return [members for _, members in bundles]
