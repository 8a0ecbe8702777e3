"""Token trees scored by a vLLM server that is already there, the best way that server allows.

`/inference/v1/generate` (the server's `--enable-scale-out`) reads its prefix cache; without it `/v1/completions`
recomputes every prompt in full. Knows no vLLM package, no text and no reward; the server's weights are its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any

import httpx

from opera_client.errors import ContextTooLong, EngineFailed, NotSupported, OperaError, Unavailable
from opera_service.engines.base import EngineHealth, EngineInfo, Generation, GenerationRequest, Probe
from opera_service.engines.vllm import http_api
from opera_service.engines.vllm.plan import Plan, Prompt, Rows
from opera_service.engines.vllm.read_write_lock import TokenBudget
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import TokenTree

log = logging.getLogger(__name__)


class VllmHttpEngine:
    """`Engine` over the HTTP API of another vLLM. Make one with `connect`."""

    def __init__(self, http: httpx.AsyncClient, info: EngineInfo, route: http_api.Route) -> None:
        self._http, self._info, self._route = http, info, route
        self._version = info.weight_version
        self._budget = TokenBudget(info.max_batch_tokens)
        self._rescored = 0
        self._trouble = ""

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        vocab_size: int,
        api_key: str | None = None,
        weight_version: str = "0",
        timeout_s: float = 600.0,
        inflight_tokens: int = 500_000,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> VllmHttpEngine:
        """Ask the server at `url` what it serves and how it can score.

        `vocab_size` is the tokenizer's; the server does not tell. Raises Unavailable when there is no answer.
        """
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        http = httpx.AsyncClient(base_url=url, headers=headers, timeout=timeout_s, transport=transport)
        try:
            (model, *_) = (await http_api.answered(http.get("/v1/models")))["data"]
            route = await http_api.best_route(http)
        except (KeyError, ValueError, TypeError) as error:
            await http.aclose()
            raise EngineFailed(f"{url} does not answer like a vLLM server: {error!r}") from error
        except OperaError:
            await http.aclose()
            raise
        if route == "completions":
            log.warning(
                "%s offers no /inference/v1/generate: every context is computed in full and usage says so. "
                "Start it with --enable-scale-out to share prefixes",
                url,
            )
        elif route == "fixed-tokens":
            log.info("%s scores fixed tokens; give it opera-reward's scheduler to keep repeats cheap", url)
        info = EngineInfo(
            engine="vllm-http",
            model=str(model["id"]),
            revision="unknown",
            weight_version=weight_version,
            dtype="unknown",
            vocab_size=vocab_size,
            max_context=int(model.get("max_model_len") or 2**20) - 1,
            max_batch_tokens=inflight_tokens,
            route=route,
        )
        return cls(http, info, route)

    @property
    def info(self) -> EngineInfo:
        """What the server said when asked, and the weight version of its last answer."""
        return EngineInfo(**{**vars(self._info), "weight_version": self._version})

    async def score(self, trees: Sequence[TokenTree]) -> list[TreeScores]:
        """Fill every tree. Raises EngineFailed (retryable) when the server's weights changed meanwhile."""
        plan = Plan(trees)
        plan.check(vocab_size=self._info.vocab_size, max_context=self._info.max_context)
        versions: set[str] = set()
        async with asyncio.TaskGroup() as group:  # in the order that shares most
            tasks = {
                index: group.create_task(_caught(self._score(plan.prompts[index], versions)))
                for index in plan.order
            }
        found = [tasks[index].result() for index in range(len(tasks))]
        rows = [_raised(one) for one in found]
        if len(versions) > 1:
            raise EngineFailed(
                f"the server's weights changed while it scored ({', '.join(sorted(versions))}); retry"
            )
        self._version = versions.pop() if versions else self._version
        return plan.scores(rows, self._version)

    async def generate(self, requests: Sequence[GenerationRequest]) -> list[list[Generation]]:
        """Sample continuations of every request, to the end even where less is `enough`."""
        for request in requests:
            if len(request.prompt_ids) + request.max_tokens > self._info.max_context + 1:
                raise ContextTooLong("prompt and max_tokens exceed the server's max_model_len; lower max_tokens")
        found = await asyncio.gather(*(_caught(self._sample(request)) for request in requests))
        return [_raised(one) for one in found]

    def health(self) -> EngineHealth:
        """Whether the last call reached the server."""
        gauges = {
            "vllm_rescored_prompts": float(self._rescored),
            "vllm_inflight_tokens": float(self._budget.in_flight),
        }
        return EngineHealth(ok=not self._trouble, detail=self._trouble, gauges=gauges)

    async def load_weights(self, source: Path, version: str, *, probe: Probe | None = None) -> None:  # noqa: ARG002
        """Raise NotSupported: the weights belong to whoever runs that server."""
        raise NotSupported("this engine only asks a vLLM server; give new weights to that server itself")

    async def drop_adapter(self) -> None:
        """Do nothing; none was taken."""

    async def aclose(self) -> None:
        """Close the connections; the server goes on."""
        await self._http.aclose()

    async def _score(self, prompt: Prompt, versions: set[str]) -> Rows:
        async with self._budget.hold(len(prompt.ids)):
            if self._route == "completions" or prompt.top:
                answer = await self._post("/v1/completions", http_api.full_request(prompt, self._info.model))
                return http_api.full_rows(answer, prompt)
            rows = await self._score_fixed(prompt, versions)
            if rows is None:
                self._rescored += 1
                rows = await self._score_fixed(prompt, versions, recompute=True)
        if rows is None:
            raise EngineFailed("the vLLM server lost scored rows twice, with and without its prefix cache")
        return rows

    async def _score_fixed(self, prompt: Prompt, versions: set[str], *, recompute: bool = False) -> Rows | None:
        body = http_api.fixed_request(prompt, self._route, recompute=recompute)
        answer = await self._post("/inference/v1/generate", body)
        versions |= http_api.versions(answer)
        return http_api.fixed_rows(answer, prompt)

    async def _sample(self, request: GenerationRequest) -> list[Generation]:
        async with self._budget.hold(request.n * (len(request.prompt_ids) + request.max_tokens)):
            answer = await self._post("/v1/completions", http_api.sampling_request(request, self._info.model))
        return http_api.generations(answer, self._version)

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = await http_api.answered(self._http.post(path, json=body))
        except Unavailable as error:
            self._trouble = error.message
            raise
        self._trouble = ""
        return answer


async def _caught(call: Awaitable[Any]) -> Any:
    """Return a failure instead of raising it, so that a group of tasks ends together and its error stays plain."""
    try:
        return await call
    except OperaError as error:
        return error


def _raised(found: Any) -> Any:
    if isinstance(found, OperaError):
        raise found
    return found
