"""A vLLM server that is already there, asked over its own HTTP API; `rollout` has the engine over it.

Knows no vLLM package, no tree and no reward.
"""

from __future__ import annotations

from typing import Any

import httpx

from opera_client.errors import EngineFailed, OperaError
from opera_client.network import address, header_value, http_client
from opera_service.engines.base import EngineInfo, Generation, GenerationRequest
from opera_service.engines.vllm import http_api
from opera_service.engines.vllm.plan import Prompt
from opera_service.engines.vllm.rollout import INFLIGHT_TOKENS, Answer, RolloutEngine, Route


class VllmServer:
    """`Vllm` behind a URL."""

    def __init__(self, http: httpx.AsyncClient, model: str, *, tells_version: bool) -> None:
        self._http, self._model, self._tells_version = http, model, tells_version

    async def score(self, prompt: Prompt, route: Route) -> Answer:
        """Score by /v1/completions, which every version has. Raises Unavailable or EngineFailed."""
        answer = await self._post(http_api.scoring_request(prompt, self._model, cached=route == "prefix-cache"))
        return http_api.answer(answer, prompt)

    async def sample(self, request: GenerationRequest, weight_version: str) -> list[Generation]:
        """Sample by /v1/completions, to the end even where less is `enough`."""
        answer = await self._post(http_api.sampling_request(request, self._model))
        return http_api.generations(answer, weight_version)

    async def weight_version(self) -> str | None:
        """Ask /weight_info, which servers in vLLM's development mode have, as trainers start them."""
        if not self._tells_version:
            return None
        told = (await http_api.answered(self._http.get("/weight_info"))).get("weight_version")
        return None if told is None else str(told)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        return await http_api.answered(self._http.post("/v1/completions", json=body))


async def connect(
    url: str,
    *,
    vocab_size: int,
    api_key: str | None = None,
    weight_version: str = "0",
    timeout_s: float = 600.0,
    inflight_tokens: int = INFLIGHT_TOKENS,
    transport: httpx.AsyncBaseTransport | None = None,
) -> RolloutEngine:
    """Ask the server at `url` what it serves and how it can score.

    `vocab_size` is the tokenizer's; the server does not tell. Raises Unavailable when there is no answer.
    """
    key = header_value(api_key, field="vllm_api_key") if api_key else None
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    http = http_client(address(url, field="vllm_url"), headers, timeout=timeout_s, transport=transport)
    try:
        (model, *_) = (await http_api.answered(http.get("/v1/models")))["data"]
        name, length = str(model["id"]), int(model.get("max_model_len") or 2**20)
        tells_version = (await http.get("/weight_info")).is_success
    except (KeyError, ValueError, TypeError, httpx.HTTPError) as error:
        await http.aclose()
        raise EngineFailed(f"{url} does not answer like a vLLM server: {error!r}") from error
    except OperaError:
        await http.aclose()
        raise
    info = EngineInfo(
        engine="vllm-http",
        model=name,
        revision="unknown",
        weight_version=weight_version,
        dtype="unknown",
        vocab_size=vocab_size,
        max_context=length - 1,
        max_batch_tokens=inflight_tokens,
        borrowed=True,
    )
    return await RolloutEngine.connect(VllmServer(http, name, tells_version=tells_version), info)
