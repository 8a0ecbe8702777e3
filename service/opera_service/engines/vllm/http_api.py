"""vLLM's HTTP API as this engine speaks it: what is sent, and what answers mean.

Knows no vLLM package and no tree; nothing here remembers anything.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Awaitable, Mapping
from typing import Any, Literal

import httpx
import numpy as np

from opera_client.errors import EngineFailed, Unavailable
from opera_service.engines.base import Generation, GenerationRequest
from opera_service.engines.vllm.plan import Prompt, Rows

Route = Literal["fixed-tokens", "capped", "completions"]
"""`fixed-tokens`: vLLM's own path (V2 runner, GPU). `capped`: the server runs our scheduler on the V1 runner."""

FIRST_ROW = "opera_first_row"
"""As in `scheduler`: servers started with `--scheduler-cls opera_service.engines.vllm.scheduler.ScoreScheduler`
cap their cache hits by it, others ignore it."""


async def best_route(http: httpx.AsyncClient) -> Route:
    """Score two tokens in each way that reads the cache; the first that answers with rows is taken.

    Raises EngineFailed when these are no numbers.
    """
    tiny = Prompt(np.asarray([0, 1, 0], dtype=np.int32), start=1)
    routes: tuple[Route, ...] = ("fixed-tokens", "capped")
    for route in routes:
        try:
            answer = await answered(http.post("/inference/v1/generate", json=fixed_request(tiny, route)))
        except EngineFailed:
            continue  # not enabled, or not on this runner
        rows = fixed_rows(answer, tiny)
        if rows is not None:
            if not np.isfinite(rows.logprobs).all():
                raise EngineFailed(
                    "the vLLM server gives log-probabilities that are not finite; check its weights"
                )
            return route
    return "completions"


def fixed_request(prompt: Prompt, route: Route, *, recompute: bool = False) -> dict[str, Any]:
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


def fixed_rows(answer: Mapping[str, Any], prompt: Prompt) -> Rows | None:
    """Return the rows that such a request was answered with; None when some are missing."""
    found = _array(answer.get("prompt_token_id_logprobs"))
    if found is None or found.shape != (prompt.rows, 1):
        return None
    return Rows(found[:, 0].astype(np.float32), len(prompt.ids) - _cached(answer))


def versions(answer: Mapping[str, Any]) -> set[str]:
    """Return the versions of the server's weights that computed an answer; none where it does not say."""
    spans = [span for choice in answer.get("choices") or () for span in choice.get("weight_versions") or ()]
    return {span["version"] for span in spans}


def full_request(prompt: Prompt, model: str) -> dict[str, Any]:
    """Return the body for /v1/completions, which computes every context in full."""
    return {
        "model": model,
        "prompt": prompt.ids.tolist(),
        "max_tokens": 1,
        "temperature": 0,
        "prompt_logprobs": prompt.top,
    }


def full_rows(answer: Mapping[str, Any], prompt: Prompt) -> Rows:
    """Return the rows that such a request was answered with. Raises EngineFailed when some are missing."""
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
