"""Token trees scored by a vLLM server that is already there, the best way that server allows.

`/inference/v1/generate` (the server's `--enable-scale-out`) reads its prefix cache; without it `/v1/completions`
recomputes every prompt in full. Knows no vLLM package, no text and no reward; the server's weights are its own.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import logging
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np

from opera_client.errors import ContextTooLong, EngineFailed, NotSupported, OperaError, Unavailable
from opera_service.engines.base import EngineHealth, EngineInfo, Generation, GenerationRequest, Probe
from opera_service.engines.vllm.gate import TokenBudget
from opera_service.engines.vllm.plan import Plan, Prompt, Rows
from opera_service.scoring.tree import Ids, TokenTree, TreeScores

log = logging.getLogger(__name__)

Route = Literal["fixed-tokens", "capped", "completions"]
"""`fixed-tokens`: vLLM's own path (V2 runner, GPU). `capped`: the server runs our scheduler on the V1 runner."""

FIRST_ROW = "opera_first_row"
"""As in `scheduler`: servers started with `--scheduler-cls opera_service.engines.vllm.scheduler.ScoreScheduler`
cap their cache hits by it, others ignore it."""


class VllmHttpEngine:
    """`Engine` over the HTTP API of another vLLM. Make one with `connect`."""

    def __init__(self, http: httpx.AsyncClient, info: EngineInfo, route: Route) -> None:
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
            (model, *_) = (await _answer(http.get("/v1/models")))["data"]
            route = await _best_route(http)
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
                return await self._score_in_full(prompt)
            rows = await self._score_fixed(prompt, versions)
            if rows is None:
                self._rescored += 1
                rows = await self._score_fixed(prompt, versions, recompute=True)
        if rows is None:
            raise EngineFailed("the vLLM server lost scored rows twice, with and without its prefix cache")
        return rows

    async def _score_fixed(self, prompt: Prompt, versions: set[str], *, recompute: bool = False) -> Rows | None:
        answer = await self._post(
            "/inference/v1/generate", _fixed_request(prompt, self._route, recompute=recompute)
        )
        for choice in answer.get("choices") or ():
            versions |= {span["version"] for span in choice.get("weight_versions") or ()}
        found = _array(answer.get("prompt_token_id_logprobs"))
        if found is None or found.shape != (prompt.rows, 1):
            return None
        return Rows(found[:, 0].astype(np.float32), len(prompt.ids) - _cached(answer))

    async def _score_in_full(self, prompt: Prompt) -> Rows:
        body = {
            "model": self._info.model,
            "prompt": prompt.ids.tolist(),
            "max_tokens": 1,
            "temperature": 0,
            "prompt_logprobs": prompt.top,
        }
        answer = await self._post("/v1/completions", body)
        try:
            rows = answer["choices"][0]["prompt_logprobs"][-prompt.rows :]
            targets = prompt.ids[prompt.start :].tolist()
            logprobs = [row[str(target)]["logprob"] for row, target in zip(rows, targets, strict=True)]
            best = [sorted(row.items(), key=lambda entry: entry[1]["rank"])[: prompt.top] for row in rows]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise EngineFailed(
                f"the vLLM server answered without the tokens that were asked for: {error!r}"
            ) from error
        return Rows(
            np.asarray(logprobs, dtype=np.float32),
            len(prompt.ids) - _cached(answer),
            np.asarray([[int(token) for token, _ in row] for row in best], dtype=np.int32),
            np.asarray([[entry["logprob"] for _, entry in row] for row in best], dtype=np.float32),
        )

    async def _sample(self, request: GenerationRequest) -> list[Generation]:
        body: dict[str, Any] = {
            "model": self._info.model,
            "prompt": request.prompt_ids.tolist(),
            "n": request.n,
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "top_k": request.top_k,
            "seed": request.seed,
            "stop_token_ids": list(request.stop_ids),
            "ignore_eos": True,
            "return_token_ids": True,
        }
        async with self._budget.hold(request.n * (len(request.prompt_ids) + request.max_tokens)):
            answer = await self._post("/v1/completions", body)
        try:
            choices = sorted(answer["choices"], key=lambda choice: choice["index"])
            return [
                Generation(
                    _ids(choice["token_ids"]),
                    "stop" if choice["finish_reason"] == "stop" else "length",
                    self._version,
                )
                for choice in choices
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise EngineFailed(f"the vLLM server answered without token ids: {error!r}") from error

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = await _answer(self._http.post(path, json=body))
        except Unavailable as error:
            self._trouble = error.message
            raise
        self._trouble = ""
        return answer


async def _best_route(http: httpx.AsyncClient) -> Route:
    """Score two tokens in each way that reads the cache; the first that answers with rows is taken."""
    tiny = Prompt(np.asarray([0, 1, 0], dtype=np.int32), start=1)
    routes: tuple[Route, ...] = ("fixed-tokens", "capped")
    for route in routes:
        try:
            answer = await _answer(http.post("/inference/v1/generate", json=_fixed_request(tiny, route)))
        except EngineFailed:
            continue  # not enabled, or not on this runner
        found = _array(answer.get("prompt_token_id_logprobs"))
        if found is not None and found.shape == (2, 1):
            return route
    return "completions"


def _fixed_request(prompt: Prompt, route: Route, *, recompute: bool = False) -> dict[str, Any]:
    first = prompt.start - 1
    params: dict[str, Any] = {
        "max_tokens": 1,
        "temperature": 0,
        "detokenize": False,
        "skip_reading_prefix_cache": recompute,
        "extra_args": {FIRST_ROW: first},
    }
    if route == "fixed-tokens":
        params |= {
            "prompt_logprob_token_ids": prompt.ids[prompt.start :, None].tolist(),
            "prompt_logprob_start": first,
        }
    else:
        params["prompt_logprobs"] = 0
    return {"token_ids": prompt.ids.tolist(), "sampling_params": params}


async def _answer(call: Awaitable[httpx.Response]) -> dict[str, Any]:
    """Return the JSON object of a 2xx answer. Raises Unavailable (no answer, overload) or EngineFailed."""
    try:
        response = await call
    except httpx.HTTPError as error:
        raise Unavailable(f"the vLLM server cannot be reached: {error!r}; check --vllm-url") from error
    if response.status_code in (429, 503):
        raise Unavailable(f"the vLLM server is overloaded or starting (HTTP {response.status_code}); retry later")
    if not response.is_success:
        raise EngineFailed(f"the vLLM server answered HTTP {response.status_code}: {response.text[:300]}")
    try:
        answer = response.json()
    except ValueError as error:
        raise EngineFailed("the vLLM server's answer is not JSON; check --vllm-url") from error
    if not isinstance(answer, dict):
        raise EngineFailed("the vLLM server's answer is not a JSON object; check --vllm-url")
    return answer


def _array(encoded: object) -> np.ndarray[Any, Any] | None:
    if not isinstance(encoded, str):
        return None
    try:
        return np.asarray(np.load(io.BytesIO(base64.b64decode(encoded)), allow_pickle=False))
    except (ValueError, binascii.Error):
        return None


def _cached(answer: Mapping[str, Any]) -> int:
    """Return the prompt tokens that came from the cache; 0 from a server that does not say."""
    details = (answer.get("usage") or {}).get("prompt_tokens_details") or {}
    return int(details.get("cached_tokens") or 0)


def _ids(ids: Sequence[int]) -> Ids:
    return np.asarray(ids, dtype=np.int32)


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
