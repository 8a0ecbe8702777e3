"""A watched engine: what hangs or dies is replaced, its work fails retryably, and no weights are lost."""

import asyncio
import copy
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from opera_client.errors import EngineFailed, EngineOutOfMemory, InvalidWeights, OperaError, Unavailable
from opera_service.engines.base import Engine, EngineHealth
from opera_service.engines.dummy import DummyEngine
from opera_service.engines.supervisor import Supervisor
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import ROOT, TokenTree, TreeBuilder, as_ids

pytestmark = pytest.mark.timeout(30)


class Frail(DummyEngine):
    """The dummy engine, until it is told to hang, to die, to give NaN, or to fail a few times; NaN after a 9."""

    def __init__(self) -> None:
        super().__init__(64)
        self.hangs = self.dead = self.mad = False
        self.failures = 0
        self.error: OperaError = EngineFailed("the device is gone")
        self.closed = False

    async def score(self, trees: Sequence[TokenTree]) -> list[TreeScores]:
        if self.hangs:
            await asyncio.Event().wait()
        if self.dead or self.failures:
            self.failures = max(0, self.failures - 1)
            raise self.error
        answers = await super().score(trees)
        for one, tree in zip(answers, trees, strict=True):
            if self.mad or 9 in tree.tokens:
                one.logprobs[:] = np.nan
        return answers

    def health(self) -> EngineHealth:
        return EngineHealth(ok=True, stalled_s=1e9 if self.hangs else 0.0, gauges={"own": 7.0})

    async def aclose(self) -> None:
        self.closed = True


class Workshop:
    """Makes frail engines and keeps them; can be told to fail."""

    def __init__(self) -> None:
        self.made: list[Frail] = []
        self.broken = 0

    def __call__(self) -> Engine:
        if self.broken:
            self.broken -= 1
            raise EngineFailed("no device")
        self.made.append(Frail())
        return self.made[-1]


def supervised(workshop: Callable[[], Engine], pauses: Sequence[float] = (0.0,)) -> Supervisor:
    return Supervisor(workshop, stall_s=60, pauses_s=pauses)


def tree(*ids: int) -> TokenTree:
    builder = TreeBuilder()
    builder.score(builder.extend(ROOT, as_ids(ids[:1])), as_ids(ids[1:]))
    return builder.build()


async def scored(engine: Engine) -> np.ndarray:
    return (await engine.score([tree(3, 4, 5)]))[0].logprobs


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_work_on_a_hung_engine_fails_at_once_and_a_new_one_serves():
    workshop = Workshop()
    engine = supervised(workshop)
    before = await scored(engine)
    workshop.made[0].hangs = True
    outcomes = await asyncio.gather(*(scored(engine) for _ in range(5)), return_exceptions=True)
    assert all(isinstance(one, EngineFailed | Unavailable) and one.retryable for one in outcomes)
    await until(lambda: engine.health().ok)
    assert np.array_equal(await scored(engine), before)
    assert len(workshop.made) == 2
    assert engine.health().gauges == {"own": 7.0, "restarts": 1.0}
    assert engine.left_behind == 1


async def test_a_dead_engine_is_replaced_after_it_failed_to_score_one_token():
    workshop = Workshop()
    engine = supervised(workshop)
    workshop.made[0].dead = True
    for _ in range(3):
        with pytest.raises(EngineFailed, match="the device is gone"):
            await scored(engine)
    await until(lambda: engine.health().ok and len(workshop.made) == 2)
    await scored(engine)
    assert engine.left_behind == 0


async def test_an_engine_that_gives_only_nan_is_replaced_and_so_is_a_next_one_that_does():
    made: list[Frail] = []

    def make() -> Engine:
        made.append(Frail())
        made[-1].mad = len(made) == 2
        return made[-1]

    engine = supervised(make)
    made[0].mad = True
    for _ in range(3):
        assert np.isnan(await scored(engine)).all()
    await until(lambda: engine.health().ok and len(made) == 3)
    assert made[1].closed
    assert np.isfinite(await scored(engine)).all()


async def test_work_that_makes_nan_does_not_cost_the_engine():
    workshop = Workshop()
    engine = supervised(workshop)
    for _ in range(7):
        (scores,) = await engine.score([tree(9, 3)])
        assert np.isnan(scores.logprobs).all()
    assert np.isfinite(await scored(engine)).all()
    assert len(workshop.made) == 1


@pytest.mark.parametrize("failures", [2, 3, 7])
async def test_an_engine_that_scores_again_stays(failures: int):
    """What fails is the work: the engine itself scores a token when it is asked to."""
    workshop = Workshop()
    engine = supervised(workshop)
    for _ in range(failures):
        workshop.made[0].failures = 1
        with pytest.raises(EngineFailed):
            await scored(engine)
    await scored(engine)
    assert len(workshop.made) == 1


async def test_memory_that_runs_out_is_no_death():
    workshop = Workshop()
    engine = supervised(workshop)
    workshop.made[0].dead, workshop.made[0].error = True, EngineOutOfMemory("too much")
    for _ in range(6):
        with pytest.raises(EngineOutOfMemory):
            await scored(engine)
    assert len(workshop.made) == 1


async def test_the_next_engine_serves_the_weights_that_served_last(tmp_path: Path):
    workshop = Workshop()
    engine = supervised(workshop)
    for salt in (3, 5):
        save_file({"salt": np.array(salt)}, tmp_path / f"{salt}.safetensors")
        await engine.load_weights(tmp_path / f"{salt}.safetensors", f"step-{salt}")
    with pytest.raises(InvalidWeights):
        await engine.load_weights(tmp_path / "none.safetensors", "bad")
    before, info = await scored(engine), engine.info
    workshop.made[0].hangs = True
    with pytest.raises(EngineFailed):
        await scored(engine)
    assert engine.info == info, "also while there is none"
    await until(lambda: engine.health().ok)
    assert engine.info == info
    assert np.array_equal(await scored(engine), before)


async def test_until_one_can_be_made_work_is_unavailable_and_then_only_a_new_process_helps():
    workshop = Workshop()
    engine = supervised(workshop, pauses=(0.1,))
    workshop.made[0].hangs, workshop.broken = True, 6
    with pytest.raises(EngineFailed):
        await scored(engine)
    await until(lambda: engine.health().hopeless or engine.health().ok)
    assert engine.health().hopeless
    with pytest.raises(Unavailable) as refused:
        await scored(engine)
    assert refused.value.retryable
    assert refused.value.retry_after
    await until(lambda: engine.health().ok)  # the seventh attempt
    assert not engine.health().hopeless
    await scored(engine)


async def test_a_new_engine_that_does_not_score_never_serves():
    workshop = Workshop()
    made: list[Frail] = []

    def make() -> Engine:
        one = Frail()
        made.append(one)
        one.dead = len(made) == 2
        return one

    engine = supervised(make)
    made[0].hangs = True
    with pytest.raises(EngineFailed):
        await scored(engine)
    await until(lambda: engine.health().ok)
    assert len(made) == 3
    assert made[1].closed
    await scored(engine)
    assert not workshop.made


async def test_a_caller_that_goes_away_leaves_the_engine_be():
    workshop = Workshop()
    engine = supervised(workshop)
    asking = asyncio.create_task(scored(engine))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await scored(engine)
    assert len(workshop.made) == 1


async def test_a_torch_engine_whose_forward_never_returns_is_replaced():
    """A real hang: the device thread waits for ever inside the model."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from opera_service.engines.torch.engine import TorchEngine
    from opera_service.engines.torch.loading import LoadedModel
    from opera_service.engines.torch.scorer import TreeScorer

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=64, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, max_position_embeddings=64,
    )  # fmt: skip
    weights = Qwen3ForCausalLM(config).state_dict()
    models: list[Qwen3ForCausalLM] = []

    def make() -> Engine:
        model = Qwen3ForCausalLM(copy.deepcopy(config))
        model.load_state_dict(weights)
        models.append(model.eval())
        return TorchEngine(TreeScorer(LoadedModel.of(model, name="tiny")))

    engine = Supervisor(make, stall_s=0.3, pauses_s=(0.0,))
    before = await scored(engine)
    release = threading.Event()
    hook = models[0].model.layers[0].register_forward_pre_hook(lambda *_: release.wait(20) and None)
    try:
        with pytest.raises(EngineFailed, match="no sign of life"):
            await scored(engine)
        await until(lambda: engine.health().ok)
        assert np.array_equal(await scored(engine), before)
        assert len(models) == 2
    finally:
        release.set()  # or the thread would keep pytest from ending
        hook.remove()
        await engine.aclose()
