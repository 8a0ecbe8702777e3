"""vLLM's HTTP API as this engine speaks it: what is sent, and what answers mean.

Knows no vLLM package and no tree; nothing here remembers anything.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

import httpx
import numpy as np

from opera_client.errors import EngineFailed, Unavailable
from opera_service.engines.base import Generation, GenerationRequest
from opera_service.engines.vllm.plan import Prompt, Rows
from opera_service.engines.vllm.rollout import Answer
from opera_vllm import FIRST_ROW


def scoring_request(prompt: Prompt, model: str, *, cached: bool) -> dict[str, Any]:
    """Return the body for /v1/completions; `cached` asks the plug-in, else the prompt is computed in full."""
    body = {
        "model": model,
        "prompt": prompt.ids.tolist(),
        "max_tokens": 1,
        "temperature": 0,
        "prompt_logprobs": prompt.top,
    }
    return body | {"vllm_xargs": {FIRST_ROW: prompt.start - 1}} if cached else body


def answer(body: Mapping[str, Any], prompt: Prompt) -> Answer:
    """Return what such a request was answered with."""
    details = (body.get("usage") or {}).get("prompt_tokens_details")
    cached = None if details is None else int(details.get("cached_tokens") or 0)
    try:
        entries = body["choices"][0]["prompt_logprobs"]
        rows = entries[-prompt.rows :]  # the last ones are the scored ones, whether or not the others came along
        targets = prompt.ids[prompt.start :].tolist()
        logprobs = [row[str(target)]["logprob"] for row, target in zip(rows, targets, strict=True)]
        best = [sorted(row.items(), key=lambda entry: entry[1]["rank"])[: prompt.top] for row in rows]
    except (KeyError, IndexError, TypeError, ValueError):
        return Answer(None, cut=False, cached=cached)
    found = Rows(
        np.asarray(logprobs, dtype=np.float32),
        len(prompt.ids) - (cached or 0),
        np.asarray([[int(token) for token, _ in row] for row in best], dtype=np.int32),
        np.asarray([[entry["logprob"] for _, entry in row] for row in best], dtype=np.float32),
    )
    # A first scored row that came from the cache was never computed, whatever stands in its place.
    computed = (cached or 0) < prompt.start
    cut = len(entries) == 1 + prompt.rows < len(prompt.ids)
    return Answer(found if computed else None, cut=cut, cached=cached)


def sampling_request(request: GenerationRequest, model: str) -> dict[str, Any]:
    """Return the body for /v1/completions that samples all continuations of a request."""
    return {
        "model": model,
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


def generations(answer: Mapping[str, Any], weight_version: str) -> list[Generation]:
    """Return the continuations that it was answered with. Raises EngineFailed where ids are missing."""
    try:
        return [
            Generation(
                np.asarray(choice["token_ids"], dtype=np.int32),
                "stop" if choice["finish_reason"] == "stop" else "length",
                weight_version,
            )
            for choice in sorted(answer["choices"], key=lambda choice: choice["index"])
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise EngineFailed(f"the vLLM server answered without token ids: {error!r}") from error


async def answered(call: Awaitable[httpx.Response]) -> dict[str, Any]:
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
