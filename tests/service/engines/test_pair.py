"""Two engines as one, on tables that can be computed by hand."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from opera_client import AsyncRewardClient
from opera_client.errors import EngineFailed, EngineOutOfMemory
from opera_client.wire import RewardRequest
from opera_service.engines.base import EngineHealth
from opera_service.engines.dummy import DummyEngine, weights
from opera_service.engines.pair import PairEngine
from opera_service.pipelines.prefill import prefill
from opera_service.scoring.tree import ROOT, TreeBuilder
from opera_service.scoring.tree_dispatcher import TreeDispatcher
from opera_service.server.app import create_app
from opera_service.server.backends import Backend
from opera_service.server.settings import Settings
from opera_service.trajectories.byte_tokenizer import ByteTokenizer

VOCAB = ByteTokenizer().vocab_size


def expected(previous, target):
    table = weights(previous, VOCAB)
    return np.log(table[target]) - np.log(table.sum())


class Double(DummyEngine):
    """Twice the log-probs, so that its numbers are not the other's; some may be spoilt."""

    def __init__(self, spoilt: int | None = None) -> None:
        super().__init__(VOCAB)
        self.asked, self.closed, self.spoilt = 0, False, spoilt

    async def score(self, trees):
        self.asked += len(trees)
        return [replace(one, logprobs=self._spoil(tree, 2 * one.logprobs)) for tree, one in
                zip(trees, await super().score(trees), strict=True)]  # fmt: skip

    def _spoil(self, tree, logprobs):
        return np.where(tree.targets == self.spoilt, np.nan, logprobs)

    async def aclose(self) -> None:
        self.closed = True


def asked(first, second):
    """A tree that asks for two tokens behind 7, of the one model or of both."""
    builder = TreeBuilder()
    builder.score(builder.extend(ROOT, [7]), first)
    if second is not None:
        builder.second.score(builder.second.extend(ROOT, [9]), second)
    return builder.build()


async def test_each_model_answers_its_own_tree():
    second = Double()
    pair = PairEngine(DummyEngine(VOCAB), second)
    both, alone, again = await pair.score([asked([1, 2], [3]), asked([4], None), asked([5], [6, 7, 8])])
    assert both.of(0) == pytest.approx([expected(7, 1), expected(1, 2)])
    assert both.of_second.of(0) == pytest.approx([2 * expected(9, 3)])
    assert again.of_second.of(0) == pytest.approx([2 * expected(9, 6), 2 * expected(6, 7), 2 * expected(7, 8)])
    assert alone.second is None
    assert (both.tokens_computed, alone.tokens_computed, again.num_scored) == (3, 1, 4)
    assert second.asked == 2
    with pytest.raises(ValueError, match="no second model"):
        alone.of_second  # noqa: B018


def test_trees_differ_by_what_they_ask_the_second_model():
    trees = [asked([1], None), asked([1], [2]), asked([1], [3])]
    assert len({tree.digest() for tree in trees}) == 3
    assert [tree.fed_tokens for tree in trees] == [1, 2, 2]


async def test_a_second_model_that_answers_too_little_is_an_error():
    class Short(Double):
        async def score(self, trees):
            return [replace(one, logprobs=one.logprobs[:-1]) for one in await super().score(trees)]

    dispatcher = TreeDispatcher(PairEngine(DummyEngine(VOCAB), Short()).score, 100)
    (found,) = await dispatcher.answer_all([asked([1], [2, 3])])
    assert isinstance(found, EngineFailed)
    alone = TreeDispatcher(DummyEngine(VOCAB).score, 100)
    (found,) = await alone.answer_all([asked([1], [2, 3])])
    assert isinstance(found, EngineFailed)


async def test_when_one_fails_the_other_is_waited_for_and_both_are_closed():
    class Broken(Double):
        async def score(self, trees):
            raise EngineOutOfMemory("no room")

    class Slow(Double):
        ended = False

        async def score(self, trees):
            await asyncio.sleep(0.01)
            self.ended = True
            return await super().score(trees)

    first, second = Slow(), Broken()
    pair = PairEngine(first, second)
    with pytest.raises(EngineOutOfMemory):
        await pair.score([asked([1], [2])])
    assert first.ended
    await pair.aclose()
    assert (first.closed, second.closed) == (True, True)


def test_one_ill_model_makes_the_pair_ill():
    class Ill(Double):
        def health(self):
            return EngineHealth(ok=False, detail="hot", gauges={"memory_bytes": 5.0}, stalled_s=3, hopeless=True)

    found = PairEngine(Double(), Ill()).health()
    assert (found.ok, found.detail, found.hopeless, found.stalled_s) == (False, "the second model: hot", True, 3)
    assert found.gauges["second_memory_bytes"] == 5.0
    assert PairEngine(Ill(), Double()).health().detail == "hot"


async def test_numbers_of_the_second_model_that_are_none_are_their_trajectorys_error():
    spoilt = ord("z")
    app = create_app(
        Settings(engine="dummy"), backend=Backend(PairEngine(DummyEngine(VOCAB), Double(spoilt)), ByteTokenizer())
    )
    texts = ["<think>a\n\n</think>b", "<think>a\n\n</think>z", "<think>cc\n\n</think>d"]
    async with AsyncRewardClient.in_process(app) as client:
        group = {"prompt": "q", "trajectories": [{"response": text} for text in texts]}
        answer = await client.reward([group], reward="selfie")
        well, ill, also = answer.groups[0].trajectories
        assert (ill.status, ill.error.code) == ("error", "engine_failed")
        without = await client.reward(
            [{**group, "trajectories": [group["trajectories"][at] for at in (0, 2)]}], reward="selfie"
        )
        assert [well.reward, also.reward] == pytest.approx(without.rewards[0])
        assert well.reward != 0.5


async def test_a_hint_is_no_work_for_the_second_model_which_keeps_nothing():
    second = Double()
    app = create_app(
        Settings(engine="dummy"), backend=Backend(PairEngine(DummyEngine(VOCAB), second), ByteTokenizer())
    )
    async with AsyncRewardClient.in_process(app) as client:
        group = {"prompt": "q", "trajectories": [{"response": "<think>a\n\nb</think>c"}]}
        request = {"reward": "implicit_prm", "groups": [group]}
        await prefill(app.state.lifecycle.runtime, RewardRequest.model_validate(request))
        assert second.asked == 0
        await client.reward(**request)
        assert second.asked == 1
