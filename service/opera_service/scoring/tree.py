"""Token trees: many contexts that are prefixes of one another, every distinct token held once.

A `TokenTree` is a trie of token ids laid out as *runs*. A run continues some earlier token (its parent) and
sees exactly the path from the root to that parent, plus itself, causally. *Queries* ask for the log-probability
of target tokens along a path; the last token of a target is never fed and its first token is predicted by the
last token of the context.

This module knows token ids only: no text, no model, no reward, no HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ids = NDArray[np.int32]


class Cursor(NamedTuple):
    """A place in a growing tree: just after `length` tokens of chain `chain`."""

    chain: int
    length: int


ROOT = Cursor(0, 0)


@dataclass(frozen=True)
class TokenTree:
    """An immutable tree of `T` fed tokens in `R` runs, with `Q` queries over `N` scored (row, target) pairs.

    Runs are the heavy paths of the trie (each run follows the longest way down), so a response and all its
    boundaries are one run and every reference scored inside it is a short run hanging off it. A parent's tokens
    always come before its children's.
    """

    tokens: Ids
    """int32[T]: fed token ids."""
    positions: Ids
    """int32[T]: distance from the root, starting at 0."""
    run_start: Ids
    """int32[R + 1]: run r holds tokens[run_start[r]:run_start[r + 1]]."""
    run_parent: Ids
    """int32[R]: index of the token that run r continues, -1 for a root."""
    rows: Ids
    """int32[N]: index of the fed token whose next-token distribution is read."""
    targets: Ids
    """int32[N]: the token whose log-probability is read there."""
    query_start: Ids
    """int32[Q + 1]: query q owns the pairs query_start[q]:query_start[q + 1]."""
    grows: NDArray[np.bool_]
    """bool[Q]: the target is what the policy writes, which may have been asked for before it was whole."""
    want_entropy: bool = False
    want_top: int = 0
    second: TokenTree | None = None
    """What a second model is asked beside this one."""

    def __post_init__(self) -> None:
        """Refuse an inconsistent layout."""
        if len(self.tokens) != len(self.positions) or len(self.rows) != len(self.targets):
            raise ValueError("tokens/positions and rows/targets must have equal lengths")
        if len(self.run_start) != len(self.run_parent) + 1 or int(self.run_start[-1]) != len(self.tokens):
            raise ValueError("run_start must have one entry more than run_parent and end at the token count")
        if int(self.query_start[-1]) != len(self.rows) or len(self.grows) != self.num_queries:
            raise ValueError(
                "query_start must end at the number of scored pairs, and grows have one entry a query"
            )

    @property
    def num_tokens(self) -> int:
        """Distinct tokens an engine must feed."""
        return len(self.tokens)

    @property
    def fed_tokens(self) -> int:
        """Tokens that both models feed; `num_tokens` where there is one."""
        return self.num_tokens + (0 if self.second is None else self.second.num_tokens)

    @property
    def num_paths(self) -> int:
        return len(self.run_parent)

    @property
    def num_queries(self) -> int:
        return len(self.query_start) - 1

    @property
    def num_scored(self) -> int:
        """Scored (row, target) pairs, duplicates included."""
        return len(self.rows)

    @property
    def naive_tokens(self) -> int:
        """Tokens that re-encoding every query's context and target from scratch would cost."""
        lengths = self.positions[self.rows[self.query_start[1:] - 1]] + 2
        return int(lengths.sum())

    @property
    def max_length(self) -> int:
        """Tokens of the longest context + target, the length a model's limit is compared with."""
        return int(self.positions[self.rows].max()) + 2

    @property
    def longest(self) -> int:
        """The same of what both models are asked."""
        return max(self.max_length, 0 if self.second is None else self.second.max_length)

    def digest(self) -> bytes:
        """Return 32 bytes that are equal for trees that ask for the same numbers, and for no others."""
        found = sha256(f"{self.want_entropy} {self.want_top}".encode())
        for array in (self.tokens, self.run_start, self.run_parent, self.rows, self.targets, self.query_start):
            found.update(len(array).to_bytes(8, "little"))
            found.update(np.ascontiguousarray(array, dtype=np.int32).data)
        found.update(self.grows.tobytes())
        if self.second is not None:
            found.update(self.second.digest())
        return found.digest()

    def path_of(self, token: int) -> int:
        """Return the run that holds the token index `token`."""
        return int(np.searchsorted(self.run_start, token, side="right")) - 1

    def intervals(self, token: int) -> list[tuple[int, int]]:
        """Return the [start, stop) index intervals, root first, that make up the path ending with `token`."""
        found: list[tuple[int, int]] = []
        while token >= 0:
            run = self.path_of(token)
            found.append((int(self.run_start[run]), token + 1))
            token = int(self.run_parent[run])
        return found[::-1]

    def query_slice(self, query: int) -> slice:
        """Return the slice of the scored pairs that belong to `query`."""
        return slice(int(self.query_start[query]), int(self.query_start[query + 1]))

    def query_context(self, query: int) -> tuple[Ids, int]:
        """Return the whole context + target of `query` as ids, and how many of them are context."""
        pairs = self.query_slice(query)
        path = [self.tokens[start:stop] for start, stop in self.intervals(int(self.rows[pairs.stop - 1]))]
        ids = np.concatenate([*path, self.targets[pairs.stop - 1 : pairs.stop]])
        return ids, len(ids) - (pairs.stop - pairs.start)


@dataclass
class _Chain:
    parent: Cursor
    tokens: Ids
    cuts: set[int] = field(default_factory=set)
    """Lengths after which another chain hangs off this one."""


def agreement(left: Ids, right: Ids) -> int:
    """Return how many ids two arrays of equal length have in common at their start."""
    differs = left != right
    first = int(differs.argmax()) if len(differs) else 0
    return first if len(differs) and differs[first] else len(differs)


def as_ids(ids: ArrayLike) -> Ids:
    """Return `ids` as a flat int32 array."""
    array = np.asarray(ids, dtype=np.int32)
    if array.ndim != 1:
        raise ValueError(f"token ids must be a flat list, got shape {array.shape}")
    return array


class TreeBuilder:
    """Grows a token tree: equal prefixes are found, never declared.

    >>> builder = TreeBuilder()
    >>> prompt = builder.extend(ROOT, [1, 2, 3])
    >>> first = builder.score(prompt, [7, 8])
    >>> second = builder.score(builder.extend(prompt, [4]), [7, 8])
    >>> builder.build().num_tokens        # 1 2 3, 7, 4 7: the last target token is never fed
    6
    """

    def __init__(self) -> None:
        self._chains = [_Chain(ROOT, as_ids([]))]
        self._children: dict[tuple[int, int, int], int] = {}
        self._queries: list[tuple[Cursor, Ids]] = []
        self._grows: list[bool] = []
        self.num_tokens = 0
        """Distinct tokens so far."""
        self._want_entropy, self._want_top = False, 0
        self._second: TreeBuilder | None = None

    @property
    def num_queries(self) -> int:
        """Queries so far."""
        return len(self._queries)

    @property
    def second(self) -> TreeBuilder:
        """The tree of a second model; its scores come with this one's, which needs a query of its own."""
        if self._second is None:
            self._second = TreeBuilder()
        return self._second

    def extend(self, cursor: Cursor, ids: ArrayLike) -> Cursor:
        """Walk from `cursor` along `ids`, adding what is not there yet, and return where that ends."""
        ids = as_ids(ids)
        chain, length, done = cursor.chain, cursor.length, 0
        while done < len(ids):
            own = self._chains[chain].tokens
            shared = min(len(own) - length, len(ids) - done)
            step = agreement(own[length : length + shared], ids[done : done + shared])
            length, done = length + step, done + step
            if done == len(ids):
                break
            child = self._children.get((chain, length, int(ids[done])))
            if child is not None:
                chain, length = child, 0
            elif length == len(own):
                self._chains[chain].tokens = np.concatenate([own, ids[done:]])
                self.num_tokens += len(ids) - done
                length, done = length + len(ids) - done, len(ids)
            else:
                self._children[chain, length, int(ids[done])] = len(self._chains)
                self._chains[chain].cuts.add(length)
                self._chains.append(_Chain(Cursor(chain, length), ids[done:].copy()))
                self.num_tokens += len(ids) - done
                chain, length, done = len(self._chains) - 1, len(ids) - done, len(ids)
        return Cursor(chain, length)

    def score(
        self, context: Cursor, target: ArrayLike, *, grows: bool = False, entropy: bool = False, top: int = 0
    ) -> int:
        """Ask for log p(target | context) token by token; return the number of the query.

        `grows`: the policy writes the target, so engines that keep what they computed keep it, too. With `entropy`
        the tree asks for the entropy of every scored row, with `top` for the most likely tokens.
        Raises ValueError for an empty target or an empty context (there is no row to predict from).
        """
        target = as_ids(target)
        if len(target) == 0:
            raise ValueError("a target needs at least one token")
        if context == ROOT:
            raise ValueError("a context needs at least one token")
        end = self.extend(context, target[:-1])
        self._queries.append((end, target))
        self._grows.append(grows)
        self._want_entropy, self._want_top = self._want_entropy or entropy, max(self._want_top, top)
        return len(self._queries) - 1

    def build(self, *, want_entropy: bool = False, want_top: int = 0) -> TokenTree:
        """Lay the trie out as heavy paths and freeze it. Raises ValueError when nothing is scored."""
        if not self._queries:
            raise ValueError("a tree without queries has nothing to score")
        layout = _Layout(self._chains)
        rows = [layout.last_rows(end, len(target)) for end, target in self._queries]
        return TokenTree(
            tokens=layout.tokens,
            positions=layout.positions,
            run_start=layout.run_start,
            run_parent=layout.run_parent,
            rows=np.concatenate(rows),
            targets=np.concatenate([target for _, target in self._queries]),
            query_start=np.cumsum([0] + [len(row) for row in rows], dtype=np.int32),
            grows=np.array(self._grows, dtype=np.bool_),
            want_entropy=want_entropy or self._want_entropy,
            want_top=max(want_top, self._want_top),
            second=self._second.build() if self._second is not None else None,
        )


class _Layout:
    """Heavy-path layout of chains: pieces between cuts, longest way down first, branches by attachment."""

    def __init__(self, chains: Sequence[_Chain]) -> None:
        self._chains = chains
        self._cuts = [_piece_bounds(chain) for chain in chains]
        children: dict[Cursor, list[Cursor]] = {}  # end of a piece -> starts of the pieces after it
        for index, cuts in enumerate(self._cuts):
            for start in cuts[1:-1]:
                children.setdefault(Cursor(index, start), []).append(Cursor(index, start))
        for index, chain in enumerate(chains[1:], start=1):
            children.setdefault(chain.parent, []).append(Cursor(index, 0))
        self._children = children
        self._depth_below = self._measure()
        self._place()

    def _piece(self, start: Cursor) -> Cursor:
        """Return the end of the piece that starts at `start`."""
        cuts = self._cuts[start.chain]
        return Cursor(start.chain, cuts[cuts.index(start.length) + 1])

    def _measure(self) -> dict[Cursor, int]:
        """Tokens on the longest way down from each piece; children's chains always come after their parent's."""
        below: dict[Cursor, int] = {}
        for index in range(len(self._chains) - 1, -1, -1):
            cuts = self._cuts[index]
            for start, stop in reversed(list(pairwise(cuts))):
                after = self._children.get(Cursor(index, stop), [])
                below[Cursor(index, start)] = stop - start + max((below[child] for child in after), default=0)
        return below

    def _place(self) -> None:
        index_of = [np.zeros(len(chain.tokens), dtype=np.int32) for chain in self._chains]
        tokens: list[Ids] = []
        positions: list[Ids] = []
        run_start, run_parent, total = [0], [], 0
        roots = [Cursor(0, 0), *self._children.get(ROOT, [])]
        pending = [(root, -1, 0) for root in reversed(roots)]  # piece, parent token, position of its first token
        while pending:
            piece, parent, position = pending.pop()
            run_parent.append(parent)
            branches: list[tuple[Cursor, int, int]] = []
            following: Cursor | None = piece
            while following is not None:
                start, end = following, self._piece(following)
                size = end.length - start.length
                index_of[start.chain][start.length : end.length] = np.arange(total, total + size)
                tokens.append(self._chains[start.chain].tokens[start.length : end.length])
                positions.append(np.arange(position, position + size, dtype=np.int32))
                total, position = total + size, position + size
                after = self._children.get(end, [])
                following = max(after, key=self._depth_below.__getitem__, default=None)
                branches += [(child, total - 1, position) for child in after if child != following]
            run_start.append(total)
            pending += reversed(branches)
        self._index_of = index_of
        self.tokens = np.concatenate(tokens)
        self.positions = np.concatenate(positions)
        self.run_start = as_ids(run_start)
        self.run_parent = as_ids(run_parent)

    def last_rows(self, end: Cursor, count: int) -> Ids:
        """Return the token indices of the last `count` tokens on the path that ends at `end`."""
        found: list[Ids] = []
        while count > 0:
            own = self._index_of[end.chain][max(0, end.length - count) : end.length]
            found.append(own)
            count -= len(own)
            end = self._chains[end.chain].parent
        return np.concatenate(found[::-1])


def _piece_bounds(chain: _Chain) -> list[int]:
    return sorted({0, len(chain.tokens)} | chain.cuts)
