"""Token trees scored by a vLLM that is somebody else's: a server, or the engine a trainer samples with.

With our plug-in it reads its prefix cache, so that a trunk it has sampled costs nothing; without, every context is
computed in full. Which it is, is found out at the start and proved by numbers. Knows how to ask, not over what;
the weights are their owner's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, Self

import numpy as np

from opera_client.errors import ContextTooLong, EngineFailed, NotSupported, OperaError, Unavailable
from opera_service.engines.base import EngineHealth, EngineInfo, Generation, GenerationRequest, Probe
from opera_service.engines.vllm import probe
from opera_service.engines.vllm.plan import Plan, Prompt, Rows
from opera_service.engines.vllm.token_budget import TokenBudget
from opera_service.failures import or_raise
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import TokenTree

log = logging.getLogger(__name__)

INFLIGHT_TOKENS = 500_000
"""Prompt tokens that such a vLLM is handed at once: its owner has work for it, too."""

Route = Literal["prefix-cache", "recomputed"]
"""`prefix-cache`: the plug-in caps what is read from the cache. `recomputed`: the cache is not read."""


class Answer(NamedTuple):
    """What came back for one scored prompt."""

    rows: Rows | None
    """None where a scored row is missing, belongs to another token, or was never computed."""
    cut: bool
    """Whether it came without the rows before the first scored one: only the plug-in does so."""
    cached: int | None
    """Prompt tokens from the cache; None where that is not told."""
    weight_version: str | None = None
    """The owner's name of the weights that computed it, where it is told."""


class Vllm(Protocol):
    """A running vLLM, as it can be asked."""

    async def score(self, prompt: Prompt, route: Route) -> Answer:
        """Score a prompt. Raises an `OperaError` when it is not answered."""
        ...

    async def sample(self, request: GenerationRequest, weight_version: str) -> list[Generation]:
        """Sample all continuations of a request. Raises NotSupported where its owner alone samples."""
        ...

    async def weight_version(self) -> str | None:
        """Return the owner's name of the weights that serve now, where it can be asked."""
        ...

    async def aclose(self) -> None:
        """Let go of it; it goes on."""
        ...


class RolloutEngine:
    """`Engine` over a vLLM that runs already. Make one with `connect`."""

    def __init__(self, vllm: Vllm, info: EngineInfo) -> None:
        self._vllm, self._info = vllm, info
        self._budget = TokenBudget(info.max_batch_tokens)
        self._rescored = 0
        self._trouble = ""

    @classmethod
    async def connect(cls, vllm: Vllm, info: EngineInfo) -> Self:
        """Find out how `vllm` can score; `info` says the rest. Raises EngineFailed when its numbers are none."""
        try:
            version = await vllm.weight_version()
            engine = cls(vllm, replace(info, weight_version=version or info.weight_version))
            route, reason = await engine._find_route()
        except BaseException:  # whatever it is, nobody else holds the connection
            await vllm.aclose()
            raise
        engine._info = replace(engine._info, route=route, route_reason=reason)
        log.log(logging.WARNING if route == "recomputed" else logging.INFO, "scores are %s: %s", route, reason)
        return engine

    @property
    def info(self) -> EngineInfo:
        """What is known of that vLLM, and the weight version of its last answer."""
        return self._info

    async def score(self, trees: Sequence[TokenTree]) -> list[TreeScores]:
        """Fill every tree. Raises EngineFailed (retryable) when the weights changed meanwhile.

        Raises NotSupported for entropies: the largest log-probabilities are all that another's vLLM gives.
        """
        if any(tree.want_entropy for tree in trees):
            raise NotSupported(
                "a vLLM that is another's gives no entropies; leave them out, or serve with --engine vllm or torch"
            )
        plan = Plan(trees)
        plan.check(vocab_size=self._info.vocab_size, max_context=self._info.max_context)
        before = await self._vllm.weight_version()
        async with asyncio.TaskGroup() as group:  # in the order that shares most
            tasks = {index: group.create_task(_caught(self._score(plan.prompts[index]))) for index in plan.order}
        found = [or_raise(tasks[index].result()) for index in range(len(tasks))]
        versions = {version for _, version in found} | {before, await self._vllm.weight_version()}
        told = sorted(version for version in versions if version is not None)
        if len(told) > 1:
            raise EngineFailed(f"the engine's weights changed while it scored ({', '.join(told)}); retry")
        self._info = replace(self._info, weight_version=told[0]) if told else self._info
        return plan.scores([rows for rows, _ in found], self._info.weight_version)

    async def generate(self, requests: Sequence[GenerationRequest]) -> list[list[Generation]]:
        """Sample continuations of every request, to the end even where less is `enough`."""
        for request in requests:
            if len(request.prompt_ids) + request.max_tokens > self._info.max_context + 1:
                raise ContextTooLong("prompt and max_tokens exceed vLLM's max_model_len; lower max_tokens")
        found = await asyncio.gather(*(_caught(self._sample(request)) for request in requests))
        return [or_raise(one) for one in found]

    def health(self) -> EngineHealth:
        """Whether the last call was answered."""
        gauges = {
            "vllm_rescored_prompts": float(self._rescored),
            "vllm_inflight_tokens": float(self._budget.in_flight),
        }
        return EngineHealth(ok=not self._trouble, detail=self._trouble, gauges=gauges)

    async def load_weights(self, source: Path, version: str, *, probe: Probe | None = None) -> None:  # noqa: ARG002
        """Raise NotSupported: the weights belong to whoever runs that vLLM."""
        raise NotSupported("this engine only asks a vLLM that is another's; give new weights to that vLLM itself")

    async def drop_adapter(self) -> None:
        """Do nothing; none was taken."""

    async def aclose(self) -> None:
        """Let go of that vLLM; it goes on."""
        await self._vllm.aclose()

    async def _find_route(self) -> tuple[Route, str]:
        tiny = Prompt(np.asarray([0, 1, 0], dtype=np.int32), start=2)
        answer = await self._asked(tiny, "prefix-cache")
        if answer.rows is None:
            raise EngineFailed("vLLM answered a scored prompt without its log-probabilities")
        if not np.isfinite(answer.rows.logprobs).all():
            raise EngineFailed("vLLM gives log-probabilities that are not finite; check its weights")
        if not answer.cut:
            return "recomputed", "vLLM has no plug-in: pip install 'opera-reward[rollout]' where it runs"
        if answer.cached is None:
            return "recomputed", "vLLM hides what came from its cache: give it --enable-prompt-tokens-details"
        if problem := await self._mistrust():
            return "recomputed", problem
        return "prefix-cache", "vLLM has the plug-in, and its cached scores equal recomputed ones"

    async def _mistrust(self) -> str:
        """Return why cached scores are not to be trusted, nothing when they equal recomputed ones."""
        # Its block size is not told: 128 is a multiple of all that are usual.
        asked = probe.prompts(self._info.vocab_size, min(128, (self._info.max_context - 5) // 2))
        exact = [await self._asked(prompt, "recomputed") for prompt in asked]
        again = await asyncio.gather(*(self._asked(prompt, "recomputed") for prompt in asked))
        cold, warm = [[await self._asked(prompt, "prefix-cache") for prompt in asked] for _ in range(2)]
        if any(answer.rows is None for answer in (*exact, *again, *cold, *warm)):
            return "the probe's scored rows are missing"
        found, anew, first, second = (
            [one.rows for one in some if one.rows] for some in (exact, again, cold, warm)
        )
        allowed = probe.tolerance(self._info.dtype, probe.difference(found, anew))
        error = max(probe.difference(found, first), probe.difference(found, second))
        return "" if error <= allowed else f"cached scores differ from recomputed ones by {error:.3g} nats"

    async def _score(self, prompt: Prompt) -> tuple[Rows, str | None]:
        async with self._budget.hold(len(prompt.ids)):
            if self._info.route == "prefix-cache":
                answer = await self._asked(prompt, "prefix-cache")
                if answer.rows is not None:
                    return answer.rows, answer.weight_version
                self._rescored += 1
            answer = await self._asked(prompt, "recomputed")
        if answer.rows is None:
            raise EngineFailed("vLLM answered without the tokens that were asked for")
        return replace(answer.rows, recomputed=True), answer.weight_version

    async def _asked(self, prompt: Prompt, route: Route) -> Answer:
        try:
            answer = await self._vllm.score(prompt, route)
        except Unavailable as error:
            self._trouble = error.message
            raise
        self._trouble = ""
        if answer.rows is not None and (answer.rows.logprobs > _ROUNDING).any():
            raise EngineFailed("vLLM's numbers are no log-probabilities; check its weights and --logprobs-mode")
        return answer

    async def _sample(self, request: GenerationRequest) -> list[Generation]:
        async with self._budget.hold(request.n * (len(request.prompt_ids) + request.max_tokens)):
            return await self._vllm.sample(request, self._info.weight_version)


_ROUNDING = 1e-2
"""Nats above 0 that rounding explains, in bfloat16, too."""


async def _caught(call: Awaitable[Any]) -> Any:
    """Return a failure instead of raising it, so that a group of tasks ends together and its error stays plain."""
    try:
        return await call
    except OperaError as error:
        return error
