"""POST /openrlhf/reward, called as the trainer calls it: one sample a request, no ids, retries of everything."""

import asyncio
import math

import httpx
import pytest

from opera_client.errors import EngineFailed, NotSupported, Unavailable
from opera_service.engines.dummy import DummyEngine
from opera_service.pipelines.openrlhf import ANSWER_WITHIN_S, MAX_WAIT_S
from opera_service.trajectories.byte_tokenizer import ByteTokenizer

from ..app import on, opened
from ..until import until
from .conftest import FussyEngine, group

PROMPT, LABEL = "What is 17 + 25?\n", "42"
THOUGHTS = ["<think>\nno\n\n</think>\n\n32", "<think>\nWait, 7 + 5 carries.\n\n</think>\n\n42", "<think>\nHm"]
EARLIER = {"preset": "hardened-1"}
"""It tells responses apart on the dummy engine, whose numbers depend on the token before alone."""
EXTRA = {"relative", "reflection", "consistency", "level"}
EXTRA |= {"group_size_seen", "opera_failed", "opera_partial", "opera_late"}


async def ask(client: httpx.AsyncClient, text: str, *, prompt: str = PROMPT, label: str = LABEL, **query):
    """One sample, as the trainer sends it."""
    body = {"query": [prompt + text], "prompts": [prompt], "labels": [label]}
    return await client.post(
        "/openrlhf/reward", params={"group_size": 3, "wait_s": 30, **EARLIER, **query}, json=body
    )


async def good(*requests) -> list[dict]:
    answers = await asyncio.gather(*requests)
    assert [answer.status_code for answer in answers] == [200] * len(answers), [one.text for one in answers]
    bodies = [answer.json() for answer in answers]
    for body in bodies:
        numbers = [body["rewards"], body["scores"], *body["extra_logs"].values()]
        assert all(isinstance(number, float) and math.isfinite(number) for number in numbers)
        assert 0.0 <= body["scores"] <= 1.0
        assert body["extra_logs"].keys() == EXTRA
    return bodies


async def parked(client: httpx.AsyncClient, text: str, **query) -> asyncio.Task[httpx.Response]:
    """A sample that opens a group, once it waits there."""
    book = client.runtime.gatherer.state
    before = book.waiting_groups
    task = asyncio.create_task(ask(client, text, **query))
    await until(lambda: book.waiting_groups > before or task.done())
    assert not task.done()
    return task


async def direct(client: httpx.AsyncClient, *texts: str) -> list[float]:
    whole = group(trajectories=[{"response": text} for text in texts])
    answer = await client.post("/reward", json={"groups": [whole], **EARLIER})
    return [one["reward"] for one in answer.json()["groups"][0]["trajectories"]]


async def test_samples_of_a_prompt_get_what_their_group_gets_from_reward(client):
    answers = await good(*(ask(client, text) for text in THOUGHTS))
    rewards = [answer["rewards"] for answer in answers]
    assert rewards == await direct(client, *THOUGHTS)
    low, high = min(rewards), max(rewards)
    assert low < high
    assert [answer["scores"] for answer in answers] == [(one - low) / (high - low) for one in rewards]
    assert all(answer["extra_logs"]["group_size_seen"] == 3 for answer in answers)


async def test_two_groups_of_equal_prompts_do_not_mix(client):
    texts = [*THOUGHTS, *(text + "!" for text in THOUGHTS)]
    answers = await good(*(ask(client, text) for text in texts))
    expected = await direct(client, *THOUGHTS) + await direct(client, *texts[3:])
    assert [answer["rewards"] for answer in answers] == expected


async def test_equal_prompts_with_other_labels_are_other_groups(client):
    asks = (ask(client, THOUGHTS[0], label=label, group_size=2, wait_s=0.01) for label in ("42", "43"))
    assert [answer["extra_logs"]["group_size_seen"] for answer in await good(*asks)] == [1, 1]


async def test_a_prompt_cut_on_the_left_is_recognised(client):
    body = {"query": [PROMPT[5:] + THOUGHTS[1]], "prompts": [PROMPT], "labels": [LABEL]}
    cut = client.post("/openrlhf/reward", params={"group_size": 2, **EARLIER}, json=body)
    answers = await good(cut, ask(client, THOUGHTS[0], group_size=2))
    assert [answer["rewards"] for answer in answers] == await direct(client, THOUGHTS[1], THOUGHTS[0])


async def test_lists_of_several_samples_are_answered_with_lists(client):
    body = {"query": [PROMPT + text for text in THOUGHTS], "prompts": [PROMPT] * 3, "labels": [LABEL] * 3}
    answer = (await client.post("/openrlhf/reward?group_size=3&preset=hardened-1", json=body)).json()
    assert answer["rewards"] == await direct(client, *THOUGHTS)
    assert len(answer["scores"]) == 3
    assert all(len(column) == 3 for column in answer["extra_logs"].values())


async def test_empty_lists_are_answered_with_empty_lists(client):
    body = {"query": [], "prompts": [], "labels": []}
    answer = (await client.post("/openrlhf/reward?group_size=3&preset=hardened-1", json=body)).json()
    assert answer == {"rewards": [], "scores": [], "extra_logs": {key: [] for key in EXTRA}}
    assert answer["extra_logs"].keys() == EXTRA


async def test_the_samples_present_are_rewarded_when_the_wait_is_over(client):
    first = await parked(client, THOUGHTS[0])
    answers = await good(ask(client, THOUGHTS[1], wait_s=0.01), first)
    assert [answer["rewards"] for answer in answers] == await direct(client, THOUGHTS[1], THOUGHTS[0])
    assert [answer["extra_logs"]["opera_partial"] for answer in answers] == [1, 1]


async def test_a_retry_after_a_lost_connection_does_not_count_twice(client):
    lost = await parked(client, THOUGHTS[0])
    lost.cancel()
    await asyncio.gather(lost, return_exceptions=True)
    answers = await good(*(ask(client, text) for text in THOUGHTS))
    assert [answer["rewards"] for answer in answers] == await direct(client, *THOUGHTS)
    assert client.runtime.gatherer.state.counts.duplicates == 1


async def test_a_sample_that_cannot_be_scored_gets_the_groups_mean_and_says_so(client):
    answers = await good(ask(client, ""), ask(client, THOUGHTS[0]), ask(client, THOUGHTS[1]))
    scored = await direct(client, *THOUGHTS[:2])
    assert [answer["rewards"] for answer in answers] == [pytest.approx(sum(scored) / 2), *scored]
    assert [answer["extra_logs"]["opera_failed"] for answer in answers] == [1, 0, 0]


@pytest.mark.parametrize("label", ["", "42"])
async def test_a_group_that_cannot_be_scored_gets_one_constant_and_says_so(label):
    engine = FussyEngine(bad_token=ord("?"), error=NotSupported("this model cannot"))
    async with opened(on(engine)) as client:
        answers = await good(*(ask(client, text, label=label) for text in THOUGHTS))
    assert len({answer["rewards"] for answer in answers}) == 1
    assert [answer["scores"] for answer in answers] == [0.0] * 3
    assert [answer["extra_logs"]["opera_failed"] for answer in answers] == [1.0] * 3


class Recovering(DummyEngine):
    """Raises `error` for the first `times` batches."""

    def __init__(self, times: int, error: Exception) -> None:
        super().__init__(ByteTokenizer.vocab_size)
        self.times, self.error = times, error

    async def score(self, trees):
        if self.times:
            self.times -= 1
            raise self.error
        return await super().score(trees)


async def test_a_failure_that_passes_is_waited_out():
    async with opened(on(Recovering(2, EngineFailed("ill")))) as client:
        answers = await good(*(ask(client, text) for text in THOUGHTS))
        assert [answer["rewards"] for answer in answers] == await direct(client, *THOUGHTS)


async def test_a_service_without_engine_is_an_error_not_a_reward():
    async with opened(on(Recovering(1, Unavailable("the engine is gone")))) as client:
        asks = [ask(client, text) for text in THOUGHTS]
        answers = await asyncio.gather(*asks)
        assert [answer.status_code for answer in answers] == [503] * 3
        retries = await good(*(ask(client, text) for text in THOUGHTS))
        assert [answer["rewards"] for answer in retries] == await direct(client, *THOUGHTS)


async def test_lack_of_room_is_waited_out():
    async with opened(max_waiting_groups=1) as client:
        first = await parked(client, THOUGHTS[0], group_size=2)
        second = asyncio.create_task(ask(client, "b", group_size=1, label="43"))
        counts = client.runtime.gatherer.state.counts
        await until(lambda: counts.refused > 0)
        assert not second.done()
        one, other, _ = await good(first, ask(client, THOUGHTS[1], group_size=2), second)
        assert [one["rewards"], other["rewards"]] == await direct(client, *THOUGHTS[:2])


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({}, "group_size"),
        ({"group_size": 0}, "group_size"),
        ({"group_size": "many"}, "group_size"),
        ({"group_size": 2, "wait_s": 171}, "wait_s"),
        ({"group_size": 2, "wait_s": 0}, "wait_s"),
        ({"group_size": 2, "wait_s": "nan"}, "wait_s"),
        ({"group_size": 2, "reward": "nonsense"}, "reward"),
        ({"group_size": 2, "task": "poem"}, "task"),
        ({"group_size": 2, "n": 3}, "n"),
    ],
)
async def test_a_wrong_url_is_told_the_parameter(client, query, field):
    body = {"query": [], "prompts": [], "labels": []}
    answer = await client.post("/openrlhf/reward", params=query, json=body)
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, field)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"query": ["a"], "prompts": ["a"], "labels": []}, "labels"),
        ({"query": ["a"], "prompts": ["a"]}, "labels"),
        ({"query": ["a"], "prompts": ["a"], "labels": [{"target": 4}]}, "labels.0"),
        ({"query": ["a"], "prompts": ["a"], "labels": [None]}, "labels.0"),
        ({"query": ["quite another text"], "prompts": ["the prompt"], "labels": ["4"]}, "query.0"),
        ({"query": [], "prompts": [], "labels": [], "images": []}, "images"),
    ],
)
async def test_a_wrong_body_is_told_the_field(client, body, field):
    answer = await client.post("/openrlhf/reward?group_size=1&preset=hardened-1", json=body)
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, field)


async def test_the_cost_headers_count_a_group_once_however_many_samples_were_asked(client):
    whole = group(trajectories=[{"response": text} for text in THOUGHTS], prompt=PROMPT, reference=LABEL)
    direct_cost = (await client.post("/reward", json={"groups": [whole], **EARLIER})).headers["X-Tokens-Computed"]
    body = {"query": [PROMPT + text for text in THOUGHTS], "prompts": [PROMPT] * 3, "labels": [LABEL] * 3}
    async with opened() as fresh:  # which remembers nothing
        together = await fresh.post("/openrlhf/reward", params={"group_size": 3, **EARLIER}, json=body)
    assert int(together.headers["X-Tokens-Computed"]) == int(direct_cost) > 0
    assert float(together.headers["X-Engine-Ms"]) > 0
    assert "X-Queue-Ms" in together.headers
    empty = await client.post(
        "/openrlhf/reward", params={"group_size": 3, **EARLIER}, json={"query": [], "prompts": [], "labels": []}
    )
    assert empty.headers["X-Tokens-Computed"] == "0"


async def test_a_deadline_in_the_header_is_kept_and_the_sample_keeps_its_place(client):
    body = {"query": [PROMPT + THOUGHTS[0]], "prompts": [PROMPT], "labels": [LABEL]}
    late = await client.post(
        "/openrlhf/reward", params={"group_size": 3, **EARLIER}, json=body, headers={"X-Request-Deadline": "0"}
    )
    assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
    answers = await good(*(ask(client, text) for text in THOUGHTS))
    assert [answer["rewards"] for answer in answers] == pytest.approx(await direct(client, *THOUGHTS))


async def test_the_answer_comes_before_the_trainer_hangs_up(monkeypatch: pytest.MonkeyPatch):
    """Its client waits 180 s. What ends the wait is that limit, whatever `wait_s` says."""
    assert MAX_WAIT_S < ANSWER_WITHIN_S <= 178
    monkeypatch.setattr("opera_service.api.routes.openrlhf.ANSWER_WITHIN_S", 0.5)
    async with opened() as client, asyncio.timeout(25):
        alone = await ask(client, THOUGHTS[0], wait_s=30)
    assert (alone.status_code, alone.json()["error"]["code"]) == (504, "deadline_exceeded")
