"""Which route a model takes, and the proof that it may.

Packed routes need plain causal attention in every layer. What a configuration promises is then checked with
numbers: on the very weights that are loaded, a route must agree with plain forwards of single contexts, on both
sides of every length that the configuration names.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from opera_client.errors import EngineFailed, NotSupported
from opera_service.engines.torch.flex import FlexRoute
from opera_service.engines.torch.kept_trunks import KeptTrunksRoute
from opera_service.engines.torch.kv_fork import KvForkRoute
from opera_service.engines.torch.loading import LoadedModel
from opera_service.engines.torch.naive import NaiveRoute
from opera_service.engines.torch.packed import PackedRoute
from opera_service.engines.torch.probe import (
    SHORT,
    affordable,
    critical_lengths,
    crossing_tree,
    follows_longest,
    must_be_causal,
    probe_tree,
)
from opera_service.engines.torch.readout import Head, Readout
from opera_service.engines.torch.route import Route
from opera_service.engines.torch.route_by_size import fastest
from opera_service.engines.torch.tree_sdpa import TreeSdpaRoute
from opera_service.failures import reason_of
from opera_service.scoring.tree import TokenTree

_log = logging.getLogger(__name__)

ROUTES = {route.name: route for route in (TreeSdpaRoute, FlexRoute, KvForkRoute, KeptTrunksRoute, NaiveRoute)}
_PACKED = {"tree_sdpa", "flex"}
_PACKABLE = {"full_attention", "sliding_attention"}
_TOLERANCE, _HALF_TOLERANCE = 5e-4, 0.1
"""Largest difference in nats between route and oracle, and the mean difference that half precision may show."""


def choose_route(
    loaded: LoadedModel, head: Head, wanted: str = "auto", *, max_tokens: int = 1024, measure_s: float = 0.0
) -> Route:
    """Return the wanted route, or for `auto` the first that is right for this model.

    With `measure_s`, `auto` spends about so many seconds on finding which of all right ones is fastest at which
    size of a batch, up to `max_tokens`.

    Raises `NotSupported` for an unknown name, a model that is not causal and a route that would give wrong
    numbers, `EngineFailed` when the model gives none.
    """
    if wanted != "auto" and wanted not in ROUTES:
        raise NotSupported(f"route {wanted!r} is unknown; use one of auto, {', '.join(ROUTES)}")
    if wanted == "auto":
        packed = ["flex", "tree_sdpa"] if loaded.device.type == "cuda" else ["tree_sdpa"]
        names = [*(packed if is_packable(loaded) else []), "kv_fork", "naive"]
    else:
        names = [wanted]
    if wanted in _PACKED and not is_packable(loaded):
        raise NotSupported(
            f"{loaded.name} has layers that cannot be packed {layer_kinds(loaded)}; use --route kv_fork"
        )
    evidence = _Evidence.gather(loaded, head)
    problems, right = [], list[Route]()
    checking = time.perf_counter()
    for name in names:
        if right and (name == NaiveRoute.name or time.perf_counter() - checking >= measure_s):
            break
        if name == NaiveRoute.name:
            return NaiveRoute(loaded.model, alone=evidence.alone)
        route: Route = ROUTES[name](loaded.model)
        problem = evidence.disagreement(route) or evidence.unseen(route)
        if problem is None:
            right.append(route)
        elif not right:
            problems.append(f"{name}: {problem}")
            _log.warning("%s is not scored by route %s: %s", loaded.name, name, problem)
    if right:
        return fastest(loaded, head, right, max_tokens, measure_s, checked_s=time.perf_counter() - checking)
    raise NotSupported(
        f"route {wanted!r} is not right for {loaded.name} ({'; '.join(problems)}); use --route auto"
    )


@dataclass(frozen=True)
class _Evidence:
    """Trees with the numbers of plain forwards, one context at a time, that a route has to reproduce."""

    loaded: LoadedModel
    head: Head
    expected: list[tuple[TokenTree, NDArray[np.floating]]]
    alone: bool
    """A context's numbers depend on what else is in the forward, so each length must be computed by itself."""
    beyond: list[int]
    """Lengths of the configuration that are too long to be tried here."""

    @classmethod
    def gather(cls, loaded: LoadedModel, head: Head) -> _Evidence:
        try:
            must_be_causal(loaded)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            reason = reason_of(error)
            raise EngineFailed(
                f"a plain forward of {loaded.name} fails on {loaded.device} in {loaded.dtype} ({reason}); use"
                " another --dtype or --device"
            ) from error
        lengths, longest = critical_lengths(loaded), affordable(loaded)
        tried = [length for length in lengths if length <= longest]
        trees = [probe_tree(loaded.vocab_size, max(4, min(SHORT, loaded.max_context - 6)))]
        trees += [crossing_tree(loaded.vocab_size, tried)] if tried else []
        plain = NaiveRoute(loaded.model, alone=True)
        expected = [(tree, _answer(loaded, head, plain, tree)) for tree in trees]
        if not all(np.isfinite(numbers).all() for _, numbers in expected):
            raise EngineFailed(
                f"{loaded.name} gives log-probabilities that are not finite (dtype {loaded.dtype});"
                " use --dtype float32 or bfloat16, or check the weights"
            )
        found = cls(loaded, head, expected, False, [length for length in lengths if length > longest])
        apart = found.disagreement(NaiveRoute(loaded.model))
        if apart is not None or (follows_longest(loaded) and lengths):
            _log.warning("%s is scored one length at a time: %s", loaded.name, apart or "its rotary embedding")
            return replace(found, alone=True)
        return found

    def unseen(self, route: Route) -> str | None:
        """Say what rules `route` out although its numbers agree; None when nothing does."""
        if self.alone:
            return "what a context is worth depends on the others in the forward"
        if self.beyond and not (isinstance(route, PackedRoute) and set(self.beyond) <= route.windows):
            return f"behind {self.beyond[0]} tokens it may change, which takes too long to try here"
        return None

    def disagreement(self, route: Route) -> str | None:
        """Say how `route` differs from the expected numbers; None when it agrees."""
        for tree, expected in self.expected:
            try:
                found = _answer(self.loaded, self.head, route, tree)
            except Exception as error:  # noqa: BLE001  architectures fail in ways of their own
                return reason_of(error)
            apart = np.abs(found - expected)
            half = self.loaded.dtype in ("bfloat16", "float16")
            size = float(apart.mean() if half else apart.max())
            if not size <= (_HALF_TOLERANCE if half else _TOLERANCE):
                return f"its log-probabilities differ from plain forwards by {size:.2g} nats"
        return None


def layer_kinds(loaded: LoadedModel) -> list[str]:
    """Return the distinct `layer_types` of the configuration, sorted; empty when it names none."""
    return sorted(set(getattr(loaded.model.config.get_text_config(), "layer_types", None) or ()))


def is_packable(loaded: LoadedModel) -> bool:
    """Whether every layer is full or sliding attention, as far as model and configuration say."""
    recurrent = getattr(loaded.model, "_is_stateful", False)
    return not recurrent and set(layer_kinds(loaded)) <= _PACKABLE


def _answer(loaded: LoadedModel, head: Head, route: Route, tree: TokenTree) -> NDArray[np.floating]:
    readout = Readout(tree, head, loaded.model.dtype)
    route.run(readout, 1024)
    return readout.logprobs
