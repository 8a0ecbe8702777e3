"""An engine that fails, and a defect of ours: whose answers are errors, and which errors."""

import pytest

from opera_client.errors import EngineFailed, EngineOutOfMemory
from opera_service.engines.dummy import DummyEngine
from opera_service.server.backends import Backend
from opera_service.trajectories.byte_tokenizer import ByteTokenizer

from ..app import on, opened
from .conftest import FussyEngine, group
from .test_bad_input import error_of, post, statuses


async def test_one_group_that_fails_in_the_engine_spoils_no_other():
    engine = FussyEngine(bad_token=ord("@"), error=EngineOutOfMemory("the tree is too big"))
    async with opened(on(engine)) as client:
        body = {"groups": [group(), group(group_id="at", prompt="@")]}
        response = await client.post("/reward", json=body)
        assert response.status_code == 200
        assert statuses(response.json()) == [["ok", "ok"], ["engine_out_of_memory"] * 2]
        assert response.json()["groups"][1]["trajectories"][0]["error"]["retryable"] is True


async def test_a_trajectory_s_own_error_stays_when_its_group_fails_in_the_engine():
    engine = FussyEngine(bad_token=ord("@"), error=EngineOutOfMemory("the tree is too big"))
    async with opened(on(engine)) as client:
        mixed = group(group_id="at", prompt="@", trajectories=[{"response": ""}, {"response": "x"}])
        response = await client.post("/reward", json={"groups": [group(), mixed]})
        assert statuses(response.json()) == [["ok", "ok"], ["empty_response", "engine_out_of_memory"]]


@pytest.mark.parametrize(
    ("raised", "status", "code"),
    [
        (EngineOutOfMemory("the tree is too big"), 503, "engine_out_of_memory"),
        (EngineFailed("lost the device"), 500, "engine_failed"),
        (RuntimeError("kernel fault"), 500, "engine_failed"),
    ],
)
async def test_a_request_that_fails_whole_is_an_error_to_retry(raised: Exception, status: int, code: str):
    engine = FussyEngine(bad_token=ord("@"), error=raised)
    async with opened(on(engine)) as client:
        response = await post(client, {"groups": [group(prompt="@")]})
        error = error_of(response)
        assert (response.status_code, error["code"], error["retryable"]) == (status, code, True)


async def test_a_defect_is_answered_with_its_request_id_and_logged(caplog: pytest.LogCaptureFixture):
    class Broken(ByteTokenizer):
        eos_id = property(lambda _: _.nothing)  # a defect

    async with opened(Backend(DummyEngine(ByteTokenizer.vocab_size), Broken())) as client:
        response = await client.get("/tokenizer_info", headers={"X-Request-Id": "abc"})
        error = error_of(response)
        assert (response.status_code, error["code"], error["request_id"]) == (500, "internal_error", "abc")
        assert "Traceback" not in response.text
    assert "abc" in caplog.text
    assert "AttributeError" in caplog.text
