"""The policy around an engine: what the canary stops, what is remembered."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from opera_client.errors import InvalidWeights, PolicyBusy
from opera_service.engines.base import Probe
from opera_service.engines.dummy import DummyEngine
from opera_service.trajectories.byte_tokenizer import ByteTokenizer
from opera_service.weights.manager import WeightManager


def policy_on(engine: DummyEngine, **options) -> WeightManager:
    return WeightManager(engine, ByteTokenizer(), **options)


def salted(folder: Path, salt: int) -> Path:
    path = folder / f"{salt}.safetensors"
    save_file({"salt": np.array(salt)}, path)
    return path


class Overflowing(DummyEngine):
    """Its new weights give no number."""

    async def load_weights(self, source: Path, version: str, *, probe: Probe | None = None) -> None:
        assert probe is not None
        (scores,) = await self.score([probe.tree])
        probe.judge(replace(scores, logprobs=np.full_like(scores.logprobs, np.nan)))
        await super().load_weights(source, version, probe=probe)


async def test_weights_whose_canary_is_no_number_never_serve(tmp_path: Path):
    engine = Overflowing(ByteTokenizer.vocab_size)
    with pytest.raises(InvalidWeights, match="not finite"):
        await policy_on(engine).load(salted(tmp_path, 1), "1")
    assert engine.info.weight_version == "0"


async def test_revisions_of_versions_that_served_are_remembered(tmp_path: Path):
    engine = DummyEngine(ByteTokenizer.vocab_size)
    policy = policy_on(engine)
    for salt in (1, 2):
        await policy.load(salted(tmp_path, salt), f"v{salt}")
    revisions = [policy.revision_of(version) for version in ("0", "v1", "v2")]
    assert revisions[0] == "bigram-13"
    assert revisions[2] == engine.info.revision != revisions[1]
    assert policy.revision_of("v3") is None


async def test_weights_that_came_by_another_way_are_noticed(tmp_path: Path):
    engine = DummyEngine(ByteTokenizer.vocab_size)
    policy = policy_on(engine)
    before = await policy.info()
    await engine.load_weights(salted(tmp_path, 5), "pushed elsewhere")
    after = await policy.info()
    assert (before.weight_version, after.weight_version) == ("0", "pushed elsewhere")
    assert after.revision == engine.info.revision
    assert after.canary.mean_logprob != before.canary.mean_logprob


async def test_the_canary_of_the_weights_that_serve_is_asked_once(tmp_path: Path):
    asked = []

    class Counting(DummyEngine):
        async def score(self, trees):
            asked.append(self.info.weight_version)
            return await super().score(trees)

    policy = policy_on(Counting(ByteTokenizer.vocab_size))
    found = [await policy.info() for _ in range(3)]
    assert asked == ["0"]
    assert found[1:] == found[:-1]
    await policy.load(salted(tmp_path, 5), "1")
    so_far = len(asked)
    assert (await policy.info()).weight_version == "1"
    assert len(asked) == so_far


async def test_the_canary_fits_a_short_model():
    policy = await policy_on(DummyEngine(ByteTokenizer.vocab_size, max_context=5)).info()
    assert len(policy.canary.token_ids) == 5


def test_the_turn_comes_back_after_a_failure():
    policy = policy_on(DummyEngine(ByteTokenizer.vocab_size))
    with policy.turn(), pytest.raises(PolicyBusy), policy.turn():
        raise AssertionError
    with pytest.raises(KeyError), policy.turn():
        raise KeyError
    with policy.turn():
        pass
