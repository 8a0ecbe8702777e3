"""vLLM's weight-transfer protocol over the running engine.

NCCL needs a GPU, so the tensors travel by disk here: `receive` loads a folder. Everything around that one call is
the real thing.
"""

from __future__ import annotations

import asyncio

import pytest

from opera_client.errors import EngineFailed, InvalidRequest
from opera_service.engines.vllm.transfer import WeightTransfer

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def by_disk(engine, monkeypatch):
    """Replace the three calls that need a process group; an update_info is a folder."""
    core = engine.running()

    async def nothing() -> None:
        pass

    async def receive(update_info) -> None:
        await core._rpc("opera_load", update_info["folder"])

    async def end_update() -> None:
        await core._rpc("opera_repack")
        await core.forget()

    monkeypatch.setattr(core, "begin_update", nothing)
    monkeypatch.setattr(core, "receive", receive)
    monkeypatch.setattr(core, "end_update", end_update)


async def test_scoring_waits_and_then_sees_the_new_weights_only(engine, old, new, group, by_disk):
    tree = group(80, prompt=50, cuts=[[64, 90]], reference=7)
    transfer = WeightTransfer(engine)
    before = asyncio.create_task(engine.score([tree]))
    await asyncio.sleep(0)
    await transfer.start()
    assert before.done()
    during = asyncio.create_task(engine.score([tree]))
    await transfer.update({"folder": str(new.path)})
    assert not during.done()
    assert await transfer.finish("8") == "8"
    ((first,), (second,)) = await asyncio.gather(before, during)
    assert (first.weight_version, second.weight_version) == ("0", "8")
    assert old.error(tree, first) < 1e-4
    assert new.error(tree, second) < 1e-4


async def test_versions_without_a_name_are_counted(engine, new, by_disk):
    transfer = WeightTransfer(engine)
    names = []
    for _ in range(2):
        await transfer.start()
        await transfer.update({"folder": str(new.path)})
        names.append(await transfer.finish())
    assert names == ["transfer-1", "transfer-2"]
    assert engine.info.weight_version == "transfer-2"


async def test_an_update_that_fails_returns_to_the_weights_on_disk(engine, old, group, by_disk):
    transfer = WeightTransfer(engine)
    await transfer.start()
    with pytest.raises(EngineFailed, match="'0' serves"):
        await transfer.update({"folder": "/nowhere"})
    tree = group(81, prompt=50, cuts=[[64]], reference=7)
    (scores,) = await engine.score([tree])
    assert scores.weight_version == "0"
    assert old.error(tree, scores) < 1e-4


async def test_an_update_left_open_is_given_up(engine, old, new, group, by_disk):
    transfer = WeightTransfer(engine, timeout_s=0.2)
    await transfer.start()
    await transfer.update({"folder": str(new.path)})
    tree = group(82, prompt=50, cuts=[[64]], reference=7)
    (scores,) = await engine.score([tree])  # waits for the end of it
    assert scores.weight_version == "0"
    assert old.error(tree, scores) < 1e-4
    with pytest.raises(InvalidRequest, match="no weight update is open"):
        await transfer.finish("9")


async def test_the_order_of_calls(engine, by_disk):
    transfer = WeightTransfer(engine)
    with pytest.raises(InvalidRequest, match="start_weight_update"):
        await transfer.update({"folder": "/nowhere"})
    await transfer.start()
    with pytest.raises(InvalidRequest, match="already open"):
        await transfer.start()
    with pytest.raises(EngineFailed):
        await transfer.update({"folder": "/nowhere"})
    assert engine.info.weight_version == "0"


async def test_an_engine_without_a_transfer_backend_says_so_and_serves_on(engine, old, group):
    transfer = WeightTransfer(engine)
    with pytest.raises(EngineFailed, match="could not do it"):
        await transfer.init({"master_address": "127.0.0.1"})
    with pytest.raises(EngineFailed, match="'0' serves"):
        await transfer.start()
    tree = group(83, prompt=50, cuts=[[64]], reference=7)
    (scores,) = await engine.score([tree])
    assert old.error(tree, scores) < 1e-4
    assert transfer.world_size == 1
