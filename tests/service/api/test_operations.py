"""Probes, metrics, model information, documentation."""

import threading

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from opera_client.errors import EngineFailed, error_types
from opera_client.wire import RewardResult, RewardsInfo, ServedModel
from opera_service.api import examples
from opera_service.engines.base import EngineHealth
from opera_service.engines.dummy import DummyEngine
from opera_service.server import backends
from opera_service.server.app import create_app
from opera_service.server.settings import Settings
from opera_service.trajectories.byte_tokenizer import ByteTokenizer

from ..app import on, opened
from .conftest import group


async def probe(client: httpx.AsyncClient) -> dict[str, int]:
    return {path: (await client.get(path)).status_code for path in ("/startupz", "/livez", "/readyz", "/health")}


async def test_probes_of_a_running_service(client: httpx.AsyncClient):
    assert await probe(client) == {"/startupz": 200, "/livez": 200, "/readyz": 200, "/health": 200}
    assert (await client.get("/health")).json() == {
        "status": "ok", "detail": "", "queued_trees": 0, "queued_tokens": 0,
    }  # fmt: skip


async def test_a_service_that_loads_is_alive_but_not_ready(monkeypatch: pytest.MonkeyPatch):
    go_on, build = threading.Event(), backends.load_backend

    def slowly(*args):
        go_on.wait()
        return build(*args)

    monkeypatch.setattr(backends, "load_backend", slowly)
    app = create_app(Settings(engine="dummy"), wait=False)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://app") as client,
    ):
        assert await probe(client) == {"/startupz": 503, "/livez": 200, "/readyz": 503, "/health": 503}
        assert (await client.get("/readyz")).json()["status"] == "starting"
        early = await client.post("/reward", json={"groups": [group()]})
        error = early.json()["error"]
        assert (early.status_code, error["code"], error["retryable"]) == (503, "unavailable", True)
        go_on.set()
        await app.state.lifecycle.ready()
        assert set((await probe(client)).values()) == {200}
        assert (await client.post("/reward", json={"groups": [group()]})).status_code == 200


async def test_a_service_that_cannot_load_says_why(monkeypatch: pytest.MonkeyPatch):
    def failing(*_):
        raise EngineFailed("the weights are torn")

    monkeypatch.setattr(backends, "load_backend", failing)
    with pytest.raises(EngineFailed, match="torn"):
        async with opened():
            pass


class Sick(DummyEngine):
    def health(self) -> EngineHealth:
        return EngineHealth(ok=False, detail="lost the device", gauges={"memory_bytes": 7.0})


async def test_a_failed_engine_takes_the_service_out_of_rotation():
    async with opened(on(Sick(ByteTokenizer.vocab_size))) as client:
        assert await probe(client) == {"/startupz": 200, "/livez": 200, "/readyz": 503, "/health": 503}
        assert (await client.get("/readyz")).json()["detail"] == "lost the device"
        metrics = (await client.get("/metrics")).text
        assert "opera_engine_ok 0.0" in metrics
        assert "opera_engine_memory_bytes 7.0" in metrics


def samples(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """Name and label values (in the order of the labels' names) -> value; parsing checks the format."""
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_metrics_count_what_happened(client: httpx.AsyncClient):
    before = samples((await client.get("/metrics")).text)
    assert before["opera_queue_trees", ()] == 0
    bad = group(group_id="bad", trajectories=[{"response": ""}])
    answer = RewardResult.model_validate((await client.post("/reward", json={"groups": [group(), bad]})).json())
    await client.post("/reward", json={"groups": []})
    await client.get("/nope")
    after = samples((await client.get("/metrics")).text)
    assert after["opera_requests_total", ("/reward", "200")] == 1
    assert after["opera_requests_total", ("/reward", "422")] == 1
    assert after["opera_requests_total", ("unmatched", "404")] == 1
    assert after["opera_item_errors_total", ("empty_response",)] == 1
    assert after["opera_tokens_naive_total", ()] == answer.usage.tokens_naive
    assert after["opera_tokens_computed_total", ()] == answer.usage.tokens_computed
    assert after["opera_tokens_scored_total", ()] == answer.usage.scored_tokens
    assert after["opera_batches_total", ("ok",)] == 1
    assert after["opera_batch_tokens_sum", ()] == answer.usage.tokens_computed
    assert after["opera_engine_seconds_count", ()] == 1
    assert after["opera_queue_seconds_count", ()] == 1
    assert after["opera_encode_seconds_count", ()] == 1
    rewards = [value for value in answer.rewards[0] if value is not None]
    assert after["opera_trajectory_reward_count", ("hardened", "opera")] == len(rewards) == 2
    spread = after["opera_reward_group_spread_sum", ("hardened", "opera")]
    assert spread == pytest.approx(max(rewards) - min(rewards))
    assert after["opera_model_info", ("float64", "dummy", "dummy", "bigram-13", "0")] == 1


async def test_two_apps_in_one_process_count_apart():
    async with opened() as one, opened() as other:
        await one.post("/reward", json={"groups": [group()]})
        counts = [samples((await each.get("/metrics")).text) for each in (one, other)]
        assert [count["opera_requests_total", ("/reward", "200")] for count in counts] == [1, 0]


async def test_model_and_rewards_describe_themselves(client: httpx.AsyncClient):
    model = ServedModel.model_validate((await client.get("/model")).json())
    assert (model.name, model.engine, model.vocab_size, model.weight_version) == ("dummy", "dummy", 259, "0")
    rewards = RewardsInfo.model_validate((await client.get("/rewards")).json()).rewards
    assert {"opera", "logprob", "verifree", "rlpr", "jepo", "nover", "igpo"} <= {one.name for one in rewards}
    for one in rewards:
        assert {"paper", "hardened"} <= set(one.presets)
        assert one.config_schema["type"] == "object"


async def test_docs_work_without_the_internet(client: httpx.AsyncClient):
    page = (await client.get("/docs")).text
    assert "http://" not in page
    assert "https://" not in page
    assets = [part.split('"')[0] for part in page.split('"') if part.startswith("/docs-assets/")]
    assert any(name.endswith(".js") for name in assets)
    for name in assets:
        assert (await client.get(name)).status_code == 200


async def test_the_openapi_document_is_complete(client: httpx.AsyncClient):
    document = (await client.get("/openapi.json")).json()
    assert all(f"`{code}`" in document["info"]["description"] for code in error_types())
    schemas = document["components"]["schemas"]

    def check_references(node: object) -> None:
        if isinstance(node, dict):
            if "$ref" in node:
                assert node["$ref"].removeprefix("#/components/schemas/") in schemas
            for value in node.values():
                check_references(value)
        elif isinstance(node, list):
            for value in node:
                check_references(value)

    check_references(document)
    for path in ("/reward", "/rank", "/expand", "/score"):
        operation = document["paths"][path]["post"]
        assert operation["requestBody"]["content"]["application/json"]["example"]
        assert operation["responses"]["200"]["content"]["application/json"]["example"]
        assert {"400", "401", "409", "413", "422", "500", "503", "504"} <= set(operation["responses"])
        assert [one["name"] for one in operation["parameters"]] == ["X-Request-Deadline", "Idempotency-Key"]
    assert set(document["components"]["securitySchemes"]) == {"bearer", "key"}


@pytest.mark.parametrize(
    ("path", "request_body", "result"),
    [
        ("/reward", examples.REWARD_REQUEST, examples.REWARD_RESULT),
        ("/rank", examples.RANK_REQUEST, examples.RANK_RESULT),
        ("/expand", examples.EXPAND_REQUEST, examples.EXPAND_RESULT),
        ("/score", examples.SCORE_REQUEST, examples.SCORE_RESULT),
    ],
)
async def test_the_examples_are_what_the_dummy_engine_answers(
    client: httpx.AsyncClient, path: str, request_body: dict, result: dict
):
    answer = (await client.post(path, json=request_body)).json()
    for passing in ("timing_ms", "config_hash"):
        answer.pop(passing, None)
    expected = {key: value for key, value in result.items() if key not in ("timing_ms", "config_hash")}
    assert rounded(answer) == rounded(expected)


def rounded(value: object) -> object:
    """Floats to 6 digits."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, list) else value
