"""Which route is fastest at which size, measured on the model that serves.

A packed kernel that wins on long batches can lose on short ones, and where they cross depends on model and device.
Routes are timed on trees of some sizes at start-up, within a few seconds, and only another route that is clearly
faster takes the place of the preferred one. Knows nothing of how a route works.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from opera_service.engines.torch.loading import LoadedModel
from opera_service.engines.torch.readout import Head, Readout
from opera_service.engines.torch.route import Route
from opera_service.scoring.tree import ROOT, TokenTree, TreeBuilder

SIZES = (128, 512, 2048, 8192)
"""Tokens of the trees that are timed."""
MARGIN = 0.9
"""Another route takes the preferred one's place where it needs at most this part of its time."""
MEASURE_S = {"cpu": 0.7}
"""Seconds that a start spends on it by default; elsewhere none. On an H100 `flex`, which is tried first there, was
the fastest at every size (docs/performance.md), and most of the time would be the compiler's."""
_RUNS = 2

Clock = Callable[[], float]


@dataclass(frozen=True)
class Timing:
    """Seconds of every route at one size."""

    tokens: int
    seconds: dict[str, float]

    def winner(self, preferred: str) -> str:
        """Return the fastest route; the preferred one unless another is clearly faster."""
        fastest = min(self.seconds, key=self.seconds.__getitem__)
        return fastest if self.seconds[fastest] <= MARGIN * self.seconds[preferred] else preferred


class RouteBySize:
    """Feeds a batch by the route that was fastest at its size."""

    def __init__(self, below: Sequence[tuple[int, Route]], last: Route) -> None:
        """`below`, ascending: each route and the tokens under which it is taken; `last` takes larger batches."""
        self._below, self._last = tuple(below), last
        routes = [*(route for _, route in below), last]
        self.name = "|".join(route.name for route in routes)
        bounds = [f"{route.name} below {bound:,} tokens" for bound, route in below]
        self.reason = f"measured at start-up: {', '.join(bounds)}, then {last.name}"

    def run(self, readout: Readout, max_tokens: int) -> None:
        """Hand every scored row to the readout, by one route."""
        self.route_for(readout.tree.num_tokens).run(readout, max_tokens)

    def route_for(self, tokens: int) -> Route:
        """Return the route of a batch of so many tokens."""
        return next((route for bound, route in self._below if tokens < bound), self._last)


_known: dict[tuple[str, ...], list[Timing]] = {}
"""What was measured in this process, by shape of model, dtype, device and routes: it outlives an engine."""


def fastest(
    loaded: LoadedModel,
    head: Head,
    routes: Sequence[Route],
    max_tokens: int,
    seconds: float,
    *,
    checked_s: float = 0.0,
) -> Route:
    """Return the routes, the preferred one first, as one that takes the fastest at each size.

    Sizes for which `seconds` do not suffice go to the preferred route; `checked_s` is what one smaller tree took
    on all routes together. With one route, or no time, nothing is measured.
    """
    preferred = routes[0]
    if len(routes) == 1 or seconds <= 0:
        return preferred
    config = str(sorted(loaded.model.config.to_dict().items(), key=lambda item: item[0]))
    key = (config, loaded.dtype, str(loaded.device), str(max_tokens), *(route.name for route in routes))
    if key not in _known:
        _known[key] = timings(loaded, head, routes, max_tokens, seconds, checked_s)
    by_name = {route.name: route for route in routes}
    return combined([(each.tokens, by_name[each.winner(preferred.name)]) for each in _known[key]], preferred)


def combined(winners: Sequence[tuple[int, Route]], preferred: Route) -> Route:
    """Return one route for all sizes: the bound between two sizes is their geometric mean."""
    sizes = [*winners, (4 * winners[-1][0], preferred)] if winners else []
    below = [
        (round((smaller * larger) ** 0.5), route)
        for (smaller, route), (larger, after) in pairwise(sizes)
        if route is not after
    ]
    return RouteBySize(below, preferred) if below else preferred


def timings(
    loaded: LoadedModel,
    head: Head,
    routes: Sequence[Route],
    max_tokens: int,
    seconds: float,
    checked_s: float = 0.0,
) -> list[Timing]:
    """Time every route at growing sizes, as long as the next size is likely to end within `seconds`."""
    # A CPU's own seconds: what else runs on the machine must not decide.
    clock: Clock = time.perf_counter if loaded.device.type == "cuda" else time.process_time
    began, found = time.perf_counter(), list[Timing]()
    most = min(loaded.max_context, max_tokens)
    expected = 0.0 if loaded.device.type == "cuda" else 2 * checked_s  # on a GPU that was the compiler's time
    for size in [each for each in SIZES if each <= most]:
        if time.perf_counter() - began + expected > seconds:
            break
        tree, started = sized_tree(loaded.vocab_size, size), time.perf_counter()
        taken: dict[str, float] = {}
        for route in routes:
            _run(loaded, head, route, tree, max_tokens, clock)  # compiles, warms up
            if time.perf_counter() - began > seconds:
                return found
            taken[route.name] = min(_run(loaded, head, route, tree, max_tokens, clock) for _ in range(_RUNS))
        found.append(Timing(size, taken))
        running = (1 + _RUNS) * sum(taken.values())
        compiling = max(0.0, time.perf_counter() - started - running)
        expected = compiling + 4 * running
    return found


def _run(loaded: LoadedModel, head: Head, route: Route, tree: TokenTree, max_tokens: int, clock: Clock) -> float:
    began = clock()
    route.run(Readout(tree, head, loaded.model.dtype), max_tokens)
    if loaded.device.type == "cuda":
        torch.cuda.synchronize(loaded.device)
    return clock() - began


def sized_tree(vocab: int, tokens: int) -> TokenTree:
    """Return a tree like a group's: two responses, four boundaries each, a reference after every one."""
    rng = np.random.default_rng(tokens)
    reference = rng.integers(0, vocab, max(2, tokens // 32))
    builder = TreeBuilder()
    prompt = builder.extend(ROOT, rng.integers(0, vocab, max(1, tokens // 16)))
    length = max(4, (tokens - builder.num_tokens - 8 * (len(reference) - 1)) // 2)
    for _ in range(2):
        response = rng.integers(0, vocab, length)
        for cut in (length // 4, length // 2, 3 * length // 4, length):
            builder.score(builder.extend(prompt, response[:cut]), reference)
    return builder.build()
