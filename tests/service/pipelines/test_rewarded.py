"""The event that a request's rewards are known: what it holds, where it is raised, and who cannot hurt whom."""

import asyncio
import logging
import threading

import pytest

from opera_client.errors import EngineFailed
from opera_client.wire import RewardRequest
from opera_service.engines.dummy import DummyEngine
from opera_service.observability.rewarded import Rewarded
from opera_service.observability.run_health import BASELINE, LENGTH_DRIFT, RECENT
from opera_service.pipelines.reward import score_groups
from opera_service.trajectories.byte_tokenizer import ByteTokenizer

from ..app import on, runtime_on


def group(*thoughts: str) -> dict:
    trajectories = [{"response": thought and f"<think>\n{thought}\n\n</think>\n\n42"} for thought in thoughts]
    return {"prompt": "p", "reference": "42", "trajectories": trajectories}


def request_of(*groups: dict) -> RewardRequest:
    return RewardRequest.model_validate({"run_id": "run", "groups": list(groups)})


async def test_it_is_raised_on_the_loop_once_a_request_with_the_answer_that_is_given():
    heard: list[Rewarded] = []
    threads, loops = set(), set()

    def listen(event: Rewarded) -> None:
        heard.append(event)
        threads.add(threading.current_thread())
        loops.add(asyncio.get_running_loop())

    runtime = runtime_on(subscribers=[listen])
    request = request_of(group("One.", "", "Three."), group(""))
    answer = await score_groups(runtime, request)
    (event,) = heard
    assert (threads, loops) == ({threading.current_thread()}, {asyncio.get_running_loop()})
    assert event.request is request
    assert event.result is answer
    assert [one.result for one in event.groups] == answer.groups
    scored = [[(one.encoded.id, one.result.id) for one in group.scored()] for group in event.groups]
    assert scored == [[("0", "0"), ("2", "2")], []]
    assert all(one.outcome.reward == one.result.reward for group in event.groups for one in group.scored())
    await runtime.aclose()


async def test_without_any_reward_there_is_no_event():
    class Failing(DummyEngine):
        async def score(self, trees):
            raise EngineFailed("it is broken")

    heard: list[Rewarded] = []
    runtime = runtime_on(on(Failing(ByteTokenizer.vocab_size)), subscribers=[heard.append])
    with pytest.raises(EngineFailed):
        await score_groups(runtime, request_of(group("One.")))
    assert heard == []
    await runtime.aclose()


async def test_a_subscriber_that_fails_costs_neither_the_answer_nor_the_others_theirs(caplog):
    def fail(_: Rewarded) -> None:
        raise RuntimeError("no room")

    heard: list[Rewarded] = []
    runtime = runtime_on(subscribers=[fail, heard.append])
    with caplog.at_level(logging.ERROR):
        answer = await score_groups(runtime, request_of(group("One.")))
    assert answer.groups[0].scored == len(heard) == 1
    assert "no room" in caplog.text
    await runtime.aclose()


async def test_drift_is_in_the_answer_before_the_event_and_judged_group_by_group():
    heard: list[Rewarded] = []
    runtime = runtime_on(subscribers=[heard.append])
    first, then, late = (group(*["x" * size] * count) for size, count in ((20, BASELINE), (200, RECENT), (200, 1)))
    answer = await score_groups(runtime, request_of(first, then, late, late))
    flagged = [[LENGTH_DRIFT in one.flags for one in each.trajectories] for each in answer.groups]
    assert flagged == [[False] * BASELINE, [False] * RECENT, [True], [True]]
    assert [one.result for one in heard[0].groups] == answer.groups
    assert runtime.run_health.snapshot()["run"].flagged[LENGTH_DRIFT] == 2 / (BASELINE + RECENT + 2)
    await runtime.aclose()
