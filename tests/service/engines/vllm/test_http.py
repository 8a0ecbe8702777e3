"""Another's vLLM over HTTP, against a scripted server: the handshake, lost rows, changed weights, failures."""

from __future__ import annotations

import json
import math

import httpx
import numpy as np
import pytest

from opera_client.errors import EngineFailed, Unavailable
from opera_service.engines.base import GenerationRequest
from opera_service.engines.vllm import http
from opera_service.engines.vllm.rollout import RolloutEngine
from opera_service.scoring.tree import ROOT, TokenTree, TreeBuilder
from opera_service.trajectories.byte_tokenizer import ByteTokenizer

from ...app import on, opened

BLOCK = 4


class Server:
    """vLLM's routes as seen from outside, every prompt in its cache; a token's log-probability is minus its id."""

    def __init__(self, *, plugin: bool = True, details: bool = True, versions: tuple[str, ...] = ()) -> None:
        self.plugin, self.details, self.versions = plugin, details, list(versions)
        self.requests: list[dict] = []
        self.status = 200
        self.overflows = -1
        """The token whose log-probability is NaN."""
        self.stale = 0.0
        """What cached scores are off by."""
        self.beyond = 0
        """Answers whose cached tokens go past the first scored row."""

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/weight_info":
            return self.weight_info()
        if self.status != 200:
            return httpx.Response(self.status, text="trouble")
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "m", "max_model_len": 64}]})
        self.requests.append(json.loads(request.content))
        return self.complete(self.requests[-1])

    def weight_info(self) -> httpx.Response:
        if not self.versions:
            return httpx.Response(404)
        version = self.versions.pop(0) if len(self.versions) > 1 else self.versions[0]
        return httpx.Response(200, json={"weight_version": version})

    def complete(self, body: dict) -> httpx.Response:
        ids, row = body["prompt"], body.get("vllm_xargs", {}).get("opera_first_row")
        scored = self.plugin and row is not None
        first, cached = (row + 1, row // BLOCK * BLOCK) if scored else (1, 0)
        if scored and self.beyond and len(ids) == 4:
            self.beyond, cached = self.beyond - 1, row + 1
        rows = [{str(token): {"logprob": self.logprob(token, scored), "rank": 1}} for token in ids[first:]]
        choice = {"index": 0, "finish_reason": "length", "prompt_logprobs": [None, *rows], "token_ids": [4]}
        answer: dict = {"choices": [choice]}
        if self.details:
            answer["usage"] = {"prompt_tokens_details": {"cached_tokens": cached}}
        return httpx.Response(200, content=json.dumps(answer))  # httpx itself refuses NaN

    def logprob(self, token: int, scored: bool) -> float:
        return math.nan if token == self.overflows else -float(token) - self.stale * scored


async def connect(server: Server, vocab_size: int = 10) -> RolloutEngine:
    return await http.connect("http://vllm", vocab_size=vocab_size, transport=httpx.MockTransport(server))


def tree() -> TokenTree:
    builder = TreeBuilder()
    builder.score(builder.extend(ROOT, [1, 2]), [3, 4])
    builder.score(builder.extend(ROOT, [1, 2, 5, 6, 7]), [6])
    return builder.build()


async def test_a_server_with_the_plugin_is_asked_from_the_first_scored_row():
    server = Server()
    engine = await connect(server)
    assert engine.info.route == "prefix-cache"
    assert "plug-in" in engine.info.route_reason
    (scores,) = await engine.score([tree()])
    np.testing.assert_array_equal(scores.logprobs, [-3, -4, -6])
    asked = next(body for body in server.requests if body["prompt"] == [1, 2, 3, 4])
    assert asked["vllm_xargs"] == {"opera_first_row": 1}
    assert asked["prompt_logprobs"] == 0
    assert scores.tokens_computed == 4 + 6 - BLOCK
    assert scores.recomputed == 0


@pytest.mark.parametrize(
    ("server", "remedy"),
    [(Server(plugin=False), "opera-reward[rollout]"), (Server(details=False), "--enable-prompt-tokens-details")],
)
async def test_any_other_recomputes_and_says_what_would_help(server, remedy, caplog):
    engine = await connect(server)
    assert engine.info.route == "recomputed"
    assert remedy in engine.info.route_reason
    assert remedy in caplog.text
    (scores,) = await engine.score([tree()])
    np.testing.assert_array_equal(scores.logprobs, [-3, -4, -6])
    assert scores.tokens_computed == tree().naive_tokens
    assert scores.recomputed == 2
    assert "vllm_xargs" not in server.requests[-1]


async def test_a_cache_whose_scores_differ_is_not_read():
    server = Server()
    server.stale = 0.5
    engine = await connect(server)
    assert engine.info.route == "recomputed"
    assert "differ from recomputed ones by 0.5 nats" in engine.info.route_reason
    (scores,) = await engine.score([tree()])
    np.testing.assert_array_equal(scores.logprobs, [-3, -4, -6])


async def test_rows_that_were_not_computed_are_scored_afresh_and_counted():
    """They may look right: what tells is how many tokens came from the cache."""
    server = Server()
    engine = await connect(server)
    server.beyond = 1
    (scores,) = await engine.score([tree()])
    np.testing.assert_array_equal(scores.logprobs, [-3, -4, -6])
    assert engine.health().gauges["vllm_rescored_prompts"] == scores.recomputed == 1
    assert scores.tokens_computed == 4 + 6 - BLOCK


@pytest.mark.parametrize(("plugin", "recomputed"), [(True, 0), (False, 2)])
async def test_the_way_that_was_taken_is_told_with_every_answer(plugin, recomputed):
    engine = await connect(Server(plugin=plugin), ByteTokenizer.vocab_size)
    async with opened(on(engine)) as client:
        model = (await client.get("/model")).json()
        items = [{"context": "2 + 2 =", "target": text} for text in ("4", "5")]
        usage = (await client.post("/score", json={"items": items})).json()["usage"]
        completion = await client.post("/v1/completions", json={"prompt": "42", "echo": True, "max_tokens": 0})
    route, reason = engine.info.route, engine.info.route_reason
    assert "plug-in" in reason
    assert (model["route"], model["route_reason"]) == (usage["route"], usage["route_reason"]) == (route, reason)
    assert usage["recomputed_contexts"] == recomputed
    assert completion.status_code == 200, completion.text
    assert completion.headers["X-Route"] == route


async def test_weights_that_change_meanwhile_are_an_error():
    engine = await connect(Server(versions=("6", "6", "7", "8", "8", "8")))
    with pytest.raises(EngineFailed, match="weights changed") as failure:
        await engine.score([tree()])
    assert failure.value.retryable
    (scores,) = await engine.score([tree()])
    assert scores.weight_version == engine.info.weight_version == "8"


async def test_a_number_that_is_none_spoils_its_query_only():
    server = Server()
    engine = await connect(server)
    server.overflows = 4
    (scores,) = await engine.score([tree()])
    assert scores.of(1).tolist() == [-6]
    with pytest.raises(EngineFailed, match="not finite"):
        scores.of(0)


async def test_a_server_that_gives_none_at_the_start_is_refused():
    server = Server()
    server.overflows = 0
    with pytest.raises(EngineFailed, match="not finite"):
        await connect(server)


async def test_logits_are_no_log_probabilities():
    server = Server()
    engine = await connect(server)
    server.stale = -9.0
    with pytest.raises(EngineFailed, match="--logprobs-mode"):
        await engine.score([tree()])


async def test_branches():
    engine = await connect(Server())
    ((one,),) = await engine.generate([GenerationRequest(np.int32([1, 2]), max_tokens=2)])
    assert one.token_ids.tolist() == [4]
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
