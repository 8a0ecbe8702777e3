"""The HTTP engine against a scripted server: the V2 wire format, lost rows, changed weights, failures."""

from __future__ import annotations

import base64
import io
import json
import math

import httpx
import numpy as np
import pytest

from opera_client.errors import EngineFailed, Unavailable
from opera_service.engines.base import GenerationRequest
from opera_service.engines.vllm.http import VllmHttpEngine
from opera_service.scoring.tree import ROOT, TokenTree, TreeBuilder


def npy(array: np.ndarray) -> str:
    file = io.BytesIO()
    np.save(file, array)
    return base64.b64encode(file.getvalue()).decode()


class Server:
    """vLLM 0.32's routes as seen from outside; the log-probability of a token is minus its id."""

    def __init__(self, *, runner: str = "v2", loses: int = 0, versions: tuple[str, ...] = ("7",)) -> None:
        self.runner, self.loses, self.versions = runner, loses, list(versions)
        self.requests: list[dict] = []
        self.status = 200
        self.overflows = -1
        """The token whose log-probability is NaN."""

    def logprob(self, token: int) -> float:
        return math.nan if token == self.overflows else -float(token)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.status != 200:
            return httpx.Response(self.status, text="trouble")
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "m", "max_model_len": 64}]})
        body = json.loads(request.content)
        self.requests.append(body)
        return getattr(self, "generate" if request.url.path == "/inference/v1/generate" else "complete")(body)

    def generate(self, body: dict) -> httpx.Response:
        params = body["sampling_params"]
        if self.runner == "none":
            return httpx.Response(403, json={"error": "disabled"})
        if "prompt_logprob_token_ids" not in params or self.runner != "v2":
            return httpx.Response(400, json={"error": "V2 only"})
        rows: str | None = npy(np.float32([[self.logprob(one)] for (one,) in params["prompt_logprob_token_ids"]]))
        if self.loses and len(body["token_ids"]) > 3 and not params["skip_reading_prefix_cache"]:
            self.loses -= 1
            rows = None
        version = self.versions.pop(0) if len(self.versions) > 1 else self.versions[0]
        choice = {"index": 0, "weight_versions": [{"version": version, "start": 0, "end": 1}]}
        return httpx.Response(200, json={"choices": [choice], "prompt_token_id_logprobs": rows})

    def complete(self, body: dict) -> httpx.Response:
        rows = [None] + [{str(token): {"logprob": self.logprob(token), "rank": 1}} for token in body["prompt"][1:]]
        choice = {"index": 0, "finish_reason": "length", "prompt_logprobs": rows, "token_ids": [4, 5]}
        return httpx.Response(200, content=json.dumps({"choices": [choice]}))  # httpx itself refuses NaN


async def connect(server: Server) -> VllmHttpEngine:
    return await VllmHttpEngine.connect("http://vllm", vocab_size=10, transport=httpx.MockTransport(server))


def tree() -> TokenTree:
    builder = TreeBuilder()
    builder.score(builder.extend(ROOT, [1, 2]), [3, 4])
    builder.score(builder.extend(ROOT, [1, 2, 5]), [6])
    return builder.build()


async def test_fixed_tokens_are_asked_from_the_first_scored_row():
    server = Server()
    engine = await connect(server)
    (scores,) = await engine.score([tree()])
    np.testing.assert_array_equal(scores.logprobs, [-3, -4, -6])
    assert engine.info.route == "fixed-tokens"
    assert scores.weight_version == engine.info.weight_version == "7"
    params = next(r["sampling_params"] for r in server.requests if r["token_ids"] == [1, 2, 3, 4])
    assert params["prompt_logprob_start"] == 1
    assert params["prompt_logprob_token_ids"] == [[3], [4]]
    assert params["skip_reading_prefix_cache"] is False
    assert params["detokenize"] is False


async def test_lost_rows_are_scored_afresh_and_counted():
    engine = await connect(Server(loses=1))
    (scores,) = await engine.score([tree()])
    np.testing.assert_array_equal(scores.logprobs, [-3, -4, -6])
    assert engine.health().gauges["vllm_rescored_prompts"] == 1


async def test_weights_that_change_meanwhile_are_an_error():
    engine = await connect(Server(versions=("7", "7", "8")))
    with pytest.raises(EngineFailed, match="weights changed") as failure:
        await engine.score([tree()])
    assert failure.value.retryable


@pytest.mark.parametrize("runner", ["none", "v1"])
async def test_servers_without_fixed_tokens_are_asked_for_completions(runner):
    engine = await connect(Server(runner=runner))
    (scores,) = await engine.score([tree()])
    np.testing.assert_array_equal(scores.logprobs, [-3, -4, -6])
    assert engine.info.route == "completions"
    assert scores.tokens_computed == 8


@pytest.mark.parametrize("runner", ["v2", "v1"])
async def test_a_number_that_is_none_spoils_its_query_only(runner):
    server = Server(runner=runner)
    engine = await connect(server)
    server.overflows = 4
    (scores,) = await engine.score([tree()])
    assert scores.of(1).tolist() == [-6]
    with pytest.raises(EngineFailed, match="not finite"):
        scores.of(0)


async def test_a_server_that_gives_none_at_the_start_is_refused():
    server = Server()
    server.overflows = 1
    with pytest.raises(EngineFailed, match="not finite"):
        await connect(server)


async def test_branches():
    engine = await connect(Server())
    ((one,),) = await engine.generate([GenerationRequest(np.int32([1, 2]), max_tokens=2)])
    assert one.token_ids.tolist() == [4, 5]
    assert one.finish_reason == "length"


@pytest.mark.parametrize(("status", "error"), [(503, Unavailable), (429, Unavailable), (500, EngineFailed)])
async def test_failures_are_typed_and_pass(status, error):
    server = Server()
    engine = await connect(server)
    server.status = status
    with pytest.raises(error, match=str(status)):
        await engine.score([tree()])
    server.status = 200
    await engine.score([tree()])
    assert engine.health().ok
