"""vLLM's weight-transfer routes: the protocol, keys, and engines that cannot."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from opera_client.errors import InvalidRequest
from opera_service.engines.dummy import DummyEngine
from opera_service.server.backends import Backend
from opera_service.trajectories.byte_tokenizer import ByteTokenizer

POSTS = (
    "/init_weight_transfer_engine", "/start_weight_update", "/update_weights", "/finish_weight_update",
    "/pause", "/resume", "/reset_prefix_cache",
)  # fmt: skip


class Receiver:
    """Writes down what a trainer does."""

    world_size = 2

    def __init__(self) -> None:
        self.heard: list[Any] = []

    async def init(self, init_info):
        self.heard.append(("init", init_info))

    async def start(self):
        if ("start",) in self.heard:
            raise InvalidRequest("a weight update is already open; finish it first")
        self.heard.append(("start",))

    async def update(self, update_info):
        self.heard.append(("update", update_info))

    async def finish(self, version=None):
        self.heard.append(("finish", version))
        return version or "transfer-1"


def backend_with(receiver: Receiver) -> Backend:
    return Backend(DummyEngine(ByteTokenizer.vocab_size), ByteTokenizer(), transfer=receiver)


async def test_the_calls_of_a_trainer_in_its_order(open_app):
    receiver = Receiver()
    init = {"master_address": "10.0.0.1", "master_port": 29500, "rank_offset": 1, "world_size": 3, "packed": True}
    tensors = {"names": ["a"], "dtype_names": ["bfloat16"], "shapes": [[2, 3]]}
    async with open_app(backend_with(receiver)) as client:
        assert (await client.get("/get_world_size")).json() == {"world_size": 2}
        calls = [
            ("/init_weight_transfer_engine", {"init_info": init}), ("/pause?mode=keep", None),
            ("/start_weight_update", {"is_checkpoint_format": True}),
            ("/update_weights", {"update_info": tensors}),
            ("/update_weights", {"update_info": [tensors]}), ("/finish_weight_update", {"weight_version": "7"}),
            ("/reset_prefix_cache", None), ("/resume", None),
        ]  # fmt: skip
        for path, body in calls:
            response = await client.post(path, json=body) if body else await client.post(path)
            assert response.status_code == 200, (path, response.text)
    assert receiver.heard == [
        ("init", init),
        ("start",),
        ("update", tensors),
        ("update", [tensors]),
        ("finish", "7"),
    ]


@pytest.mark.parametrize("body", [None, {}])
async def test_a_version_without_a_name_is_told(open_app, body):
    async with open_app(backend_with(Receiver())) as client:
        kwargs = {} if body is None else {"json": body}
        answer = (await client.post("/finish_weight_update", **kwargs)).json()
    assert answer["weight_version"] == "transfer-1"


async def test_what_the_engine_refuses_is_answered(open_app):
    async with open_app(backend_with(Receiver())) as client:
        await client.post("/start_weight_update", json={})
        again = await client.post("/start_weight_update", json={})
        wrong = await client.post("/finish_weight_update", json={"weight_version": "two words"})
        empty = await client.post("/update_weights", json={})
    assert (again.status_code, again.json()["error"]["code"]) == (422, "invalid_request")
    assert (wrong.status_code, wrong.json()["error"]["field"]) == (422, "weight_version")
    assert (empty.status_code, empty.json()["error"]["field"]) == (422, "update_info")


async def test_other_engines_say_what_to_do_instead(client: httpx.AsyncClient):
    answers = [await client.get("/get_world_size")] + [await client.post(path, json={}) for path in POSTS]
    for answer in answers:
        assert (answer.status_code, answer.json()["error"]["code"]) == (501, "not_supported")
        assert "PUT /policy/weights" in answer.json()["error"]["message"]


async def test_all_of_it_needs_an_admin_key(open_app):
    receiver = Receiver()
    async with open_app(backend_with(receiver), api_keys="user", admin_keys="boss") as client:
        for key, status in (("user", 403), ("nobody", 401)):
            headers = {"X-API-Key": key}
            assert (await client.get("/get_world_size", headers=headers)).status_code == status
            for path in POSTS:
                assert (await client.post(path, json={}, headers=headers)).status_code == status
        assert not receiver.heard
        assert (await client.get("/get_world_size", headers={"X-API-Key": "boss"})).status_code == 200
