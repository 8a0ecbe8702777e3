"""Which route a model takes, and the proof that it may.

Packed routes need plain causal attention in every layer. What a configuration promises is then checked with
numbers: on the very weights that are loaded, route and `naive` oracle must agree on a small tree.
"""

from __future__ import annotations

import logging
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from opera_client.errors import EngineFailed, NotSupported, OperaError
from opera_service.engines.torch.flex import FlexRoute
from opera_service.engines.torch.kv_fork import KvForkRoute
from opera_service.engines.torch.loading import LoadedModel
from opera_service.engines.torch.naive import NaiveRoute
from opera_service.engines.torch.readout import Head, Readout
from opera_service.engines.torch.tree_sdpa import TreeSdpaRoute
from opera_service.scoring.tree import ROOT, TokenTree, TreeBuilder

_log = logging.getLogger(__name__)

ROUTES = {route.name: route for route in (TreeSdpaRoute, FlexRoute, KvForkRoute, NaiveRoute)}
_PACKED = {"tree_sdpa", "flex"}
_PACKABLE = {"full_attention", "sliding_attention"}
_TOLERANCE, _HALF_TOLERANCE = 5e-3, 0.1
"""Largest difference in nats between route and oracle, and the mean difference that half precision may show."""


class Route(Protocol):
    """One way of feeding a batch. Synchronous; runs on the device thread."""

    name: ClassVar[str]

    def run(self, readout: Readout, max_tokens: int) -> None:
        """Hand every scored row of the readout's tree to it, with at most `max_tokens` tokens in one forward."""
        ...


def choose_route(loaded: LoadedModel, head: Head, wanted: str = "auto") -> Route:
    """Return the wanted route, or for `auto` the first that is right for this model.

    Raises `NotSupported` for an unknown name and for a route that would give wrong numbers, `EngineFailed` when
    the model gives none.
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
    tree = probe_tree(loaded.vocab_size, max(4, min(24, loaded.max_context - 6)))
    expected = _answer(loaded, head, NaiveRoute(loaded.model), tree)
    if not np.isfinite(expected).all():
        raise EngineFailed(
            f"{loaded.name} gives log-probabilities that are not finite (dtype {loaded.dtype});"
            " use --dtype float32 or bfloat16, or check the weights"
        )
    problems = []
    for name in names:
        route: Route = ROUTES[name](loaded.model)
        problem = None if name == "naive" else _disagreement(loaded, head, route, tree, expected)
        if problem is None:
            return route
        problems.append(f"{name}: {problem}")
        _log.warning("%s is not scored by route %s: %s", loaded.name, name, problem)
    raise NotSupported(
        f"route {wanted!r} is not right for {loaded.name} ({'; '.join(problems)}); use --route auto"
    )


def layer_kinds(loaded: LoadedModel) -> list[str]:
    """Return the distinct `layer_types` of the configuration, sorted; empty when it names none."""
    return sorted(set(getattr(loaded.model.config.get_text_config(), "layer_types", None) or ()))


def is_packable(loaded: LoadedModel) -> bool:
    """Whether every layer is full or sliding attention, as far as model and configuration say."""
    recurrent = getattr(loaded.model, "_is_stateful", False)
    return not recurrent and set(layer_kinds(loaded)) <= _PACKABLE


def probe_tree(vocab: int, length: int) -> TokenTree:
    """Return a small tree of fixed pseudo-random ids with branches at several depths and a branch on a branch."""
    rng = np.random.default_rng(20)
    trunk, branch, target = (rng.integers(0, vocab, count) for count in (length, 5, 4))
    builder = TreeBuilder()
    for cut in (1, length // 3, length // 2, length):
        builder.score(builder.extend(ROOT, trunk[:cut]), target)
    side = builder.extend(builder.extend(ROOT, trunk[: length // 2]), branch)
    builder.score(side, target)
    builder.score(builder.extend(ROOT, trunk[:-2]), trunk[-2:])
    return builder.build()


def _answer(loaded: LoadedModel, head: Head, route: Route, tree: TokenTree) -> NDArray[np.floating]:
    readout = Readout(tree, head, loaded.model.dtype)
    route.run(readout, 1024)
    return readout.logprobs


def _disagreement(
    loaded: LoadedModel, head: Head, route: Route, tree: TokenTree, expected: NDArray[np.floating]
) -> str | None:
    """Say how `route` differs from the oracle's numbers on the probe; None when it agrees."""
    try:
        found = _answer(loaded, head, route, tree)
    except (OperaError, AttributeError, TypeError, ValueError, KeyError, RuntimeError) as error:
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    apart = np.abs(found - expected)
    half = loaded.dtype in ("bfloat16", "float16")
    size = float(apart.mean() if half else apart.max())
    if not size <= (_HALF_TOLERANCE if half else _TOLERANCE):
        return f"its log-probabilities differ from plain forwards by {size:.2g} nats"
    return None
