"""A batch of any size comes back whole and in order, whatever the chunks and however late each answer."""

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.budget import examples
from tests.client.toy import Service, group, refusal, toy_reward

from opera_client import AsyncRewardClient, Group
from opera_client._chunks import cut, in_order, merge, shift_field
from opera_client.errors import InvalidRequest, UnexpectedAnswer
from opera_client.wire import ModelInfo, RewardResult, Timing, Usage

responses = st.lists(st.text("ab ", max_size=12), min_size=1, max_size=4)


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(responses, min_size=1, max_size=25), st.integers(1, 5), st.integers(1, 900), st.integers(1, 6),
       st.integers(0, 2**32))  # fmt: skip
def test_every_group_is_answered_once_and_in_order(batch, max_items, max_bytes, concurrency, seed):
    dice = random.Random(seed)
    service = Service()
    service.delay = lambda: dice.choice([0.0, 0.0, 0.001, 0.004])
    limits = {"max_items": max_items, "max_bytes": max_bytes, "concurrency": concurrency}

    async def ask():
        async with AsyncRewardClient.in_process(service, options=limits) as client:
            return await client.reward([group(*texts) for texts in batch])

    result = asyncio.run(ask())
    assert result.rewards == [[toy_reward(t) if t else None for t in texts] for texts in batch]
    assert [g.group_id for g in result.groups] == [str(i) for i in range(len(batch))]
    assert service.most_in_flight <= concurrency
    assert all(len(request["groups"]) <= max_items for request in service.seen)
    assert result.usage.tokens_computed == 10 * len(service.seen)
    assert result.timing_ms.engine == pytest.approx(3.0 * len(service.seen))


@given(st.lists(st.integers(0, 400), min_size=1, max_size=30), st.integers(1, 7), st.integers(1, 2000))
def test_a_cut_keeps_everything_and_is_no_smaller_than_needed(sizes, max_items, max_bytes):
    items = [Group.model_validate(group("x" * size)) for size in sizes]
    weights = [len(item.model_dump_json(exclude_none=True)) for item in items]
    chunks = list(cut(items, max_items=max_items, max_bytes=max_bytes))
    assert [item for chunk in chunks for item in chunk] == items
    position = 0
    for chunk in chunks:
        own = weights[position : position + len(chunk)]
        position += len(chunk)
        assert len(chunk) == 1 or sum(own) <= max_bytes
        if position < len(items):
            assert len(chunk) == max_items or sum(own) + weights[position] > max_bytes


def test_costs_of_several_answers_add_up_and_routes_are_named_once():
    def usage(computed: int, route: str) -> Usage:
        return Usage(tokens_naive=9, tokens_computed=computed, scored_tokens=2, route=route, route_reason="why")

    total = Usage.total([usage(5, "a"), usage(6, "b"), usage(7, "a")])
    assert (total.tokens_naive, total.tokens_computed, total.route, total.route_reason) == (27, 18, "a; b", "why")
    assert Usage.total([]) == Usage(tokens_naive=0, tokens_computed=0, scored_tokens=0)


async def test_finished_answers_do_not_pile_up_behind_a_slow_one():
    started = []
    first = asyncio.Event()

    async def work(number: int) -> int:
        started.append(number)
        if number == 0:
            await first.wait()
        return number

    async def release():
        await asyncio.sleep(0.05)
        assert max(started) < 6
        first.set()

    waiting = asyncio.create_task(release())
    assert [n async for n in in_order(work, range(100), concurrency=3)] == list(range(100))
    await waiting


async def test_the_first_failure_cancels_what_is_in_flight(service: Service):
    cancelled = []

    async def work(number: int) -> int:
        if number == 1:
            raise ValueError("second")
        try:
            await asyncio.sleep(0 if number == 0 else 60)
        except asyncio.CancelledError:
            cancelled.append(number)
            raise
        return number

    stream = in_order(work, range(50), concurrency=3)
    assert await anext(stream) == 0
    with pytest.raises(ValueError, match="second"):
        await anext(stream)
    assert cancelled == [2, 3, 4]


@pytest.mark.parametrize(
    ("groups", "field"),
    [
        ([], "groups"),
        ([group("a"), {"prompt": "p", "reference": "r"}], "groups.1.trajectories"),
        ([group("a", typo=1)], "groups.0.typo"),
        ([group("a"), "text"], "groups.1"),
        ([{**group("a"), "trajectories": [{"response_token_ids": [1, -1]}]}],
         "groups.0.trajectories.0.response_token_ids.1"),
    ],
)  # fmt: skip
async def test_a_bad_batch_is_refused_by_field_before_anything_is_sent(service: Service, groups, field):
    async with AsyncRewardClient.in_process(service) as client:
        with pytest.raises(InvalidRequest) as caught:
            await client.reward(groups)
    assert caught.value.field == field
    assert service.seen == []


@pytest.mark.parametrize(
    ("options", "field"),
    [({"detail": "all"}, "detail"), ({"step": -1}, "step"), ({"config": {"x": float("nan")}}, "config.x")],
)
async def test_a_bad_argument_is_refused_by_name(service: Service, options, field):
    async with AsyncRewardClient.in_process(service) as client:
        with pytest.raises(InvalidRequest) as caught:
            await client.reward([group("a")], **options)
    assert caught.value.field == field
    assert service.seen == []


@pytest.mark.parametrize(
    ("field", "shifted"),
    [
        ("groups.0.reference", "groups.7.reference"),
        ("items.3", "items.10"),
        ("groups", "groups"),
        ("config.groups.0", "config.groups.0"),
        ("", ""),
        (None, None),
    ],
)
def test_a_field_of_a_chunk_is_named_by_its_place_in_the_batch(field, shifted):
    assert shift_field(field, 7) == shifted


async def test_errors_of_chunks_name_fields_of_the_callers_batch(service: Service):
    detail = {"code": "empty_reference", "message": "m", "field": "groups.0.reference"}
    answer = service.answer

    def answering(path, request):
        body = answer(path, request)
        body["groups"][0]["trajectories"][0] = {"id": "0", "status": "error", "error": detail}
        return body

    service.answer = answering
    async with AsyncRewardClient.in_process(service, options={"max_items": 2}) as client:
        result = await client.reward([group("a")] * 5)
        fields = [t.error.field for g in result.groups for t in g.trajectories if t.error]
        assert fields == ["groups.0.reference", "groups.2.reference", "groups.4.reference"]
        wrong = refusal(422, "invalid_request", field="groups.0.reference")
        service.fail = lambda request: wrong if request["groups"][0]["group_id"] == "4" else None
        with pytest.raises(InvalidRequest) as caught:
            await client.reward([group("a")] * 5)
    assert caught.value.field == "groups.4.reference"


def test_chunks_that_were_compared_with_different_second_models_are_no_answer():
    def answer(second: str) -> RewardResult:
        model = ModelInfo(name="m", revision="r", weight_version="0", dtype="d", engine="e")
        return RewardResult(
            model=model,
            second_model=model.model_copy(update={"revision": second}),
            reward="selfie",
            preset="hardened",
            config_hash="h",
            components=[],
            groups=[],
            usage=Usage(tokens_naive=0, tokens_computed=0, scored_tokens=0),
            timing_ms=Timing(encode=0, queue=0, engine=0, total=0),
        )

    assert merge([answer("one"), answer("one")]).second_model.revision == "one"
    with pytest.raises(UnexpectedAnswer, match="compared with two models"):
        merge([answer("one"), answer("other")])
