"""A killed engine process: retryable errors meanwhile, right numbers afterwards, on the weights last loaded."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal

import pytest

from opera_client.errors import EngineFailed, OperaError, Unavailable

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_killing_the_engine_process(engine, new, group):
    await engine.load_weights(new.path, "step-7")
    trees = [group(60 + i, prompt=200, cuts=[[400, 900]], reference=30) for i in range(8)]
    calls = [asyncio.create_task(engine.score([tree])) for tree in trees]
    await asyncio.sleep(0.02)
    (process,) = [child for child in multiprocessing.active_children() if "EngineCore" in child.name]
    process.kill()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert failures
    assert all(isinstance(failure, EngineFailed | Unavailable) and failure.retryable for failure in failures)
    assert not engine.health().ok

    for _ in range(600):
        try:
            (scores,) = await engine.score([trees[0]])
            break
        except OperaError as error:
            if not error.retryable:
                raise
            await asyncio.sleep(0.5)
    assert scores.weight_version == "step-7"
    assert new.error(trees[0], scores) < 1e-4
    assert engine.health().ok
    assert engine.health().gauges["vllm_restarts"] == 1


async def test_an_engine_process_that_hangs_is_replaced(engine, old, group, monkeypatch):
    """Stopped, not killed: nothing ever comes back, and only the watch can tell."""
    impatient = engine._settings.model_copy(update={"stall_s": 3.0})
    tree, restarts = group(70, prompt=100, cuts=[[60]], reference=9), engine._restarts
    (process,) = [child for child in multiprocessing.active_children() if "EngineCore" in child.name]
    with monkeypatch.context() as patched:  # the new one is given its time on a busy machine
        patched.setattr(engine, "_settings", impatient)
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(EngineFailed) as failure:
            await asyncio.wait_for(engine.score([tree]), 60)
        assert failure.value.retryable
        async with asyncio.timeout(240):
            while engine._restarts == restarts:  # noqa: ASYNC110  its own watch restarts it
                await asyncio.sleep(0.2)
    (scores,) = await engine.score([tree])
    assert old.error(tree, scores) < 1e-4
