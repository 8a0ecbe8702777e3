"""POST /reward/hint on the torch engine with kept trunks: less work at the end, and not one bit of difference."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from httpx import ASGITransport

from opera_client import AsyncRewardClient
from opera_client._hints import HintStream
from opera_client.errors import InvalidRequest, NotFound, ServiceUnreachable
from opera_client.wire import HintRequest, HintResult, RewardRequest
from opera_demo import model_path
from opera_service.engines.torch import TorchEngine
from opera_service.pipelines.hints import Hints, request_of, weight_of
from opera_service.server.backends import Backend
from opera_service.trajectories.hf_tokenizer import HFTokenizer

from ..app import AppClient, opened
from ..until import until

PROMPT = [{"role": "user", "content": "The kitchen has 9 coins. Seven more come. How many are there?"}]
REFERENCE = "The kitchen now has 16 coins."
RESPONSE = (
    "<think>\nThe kitchen has 9 coins to begin with.\n\nThen seven more coins come to the kitchen.\n\n"
    "Wait, that makes 16 coins, not 15.\n\nSo the kitchen has 16 coins now.\n</think>\n\nThe kitchen has 16 coins."
)


@pytest.fixture(scope="module")
def tokenizer() -> HFTokenizer:
    return HFTokenizer.load(str(model_path()))


def backend(tokenizer: HFTokenizer, route: str = "kept_trunks") -> Backend:
    return Backend(TorchEngine.load(model_path(), dtype="float32", route=route), tokenizer)


def final(ids: list[int], reward: str = "opera", **changes: Any) -> dict[str, Any]:
    group = {"prompt": PROMPT, "reference": REFERENCE, "trajectories": [{"response_token_ids": ids}]}
    return {"run_id": "run", "reward": reward, "groups": [group], **changes}


def hint(seq: int, ids: list[int], reward: str = "opera", **changes: Any) -> dict[str, Any]:
    about = {"prompt": PROMPT, "reference": REFERENCE, "reward": reward} if seq == 0 else {}
    named = {"run_id": "run", "group_id": "g", "member_id": "m"}
    return {**named, "seq": seq, "append": {"token_ids": ids}, **about, **changes}


async def settled(client: AppClient) -> None:
    """Until nothing is worked ahead for any more."""
    for _ in range(6000):
        if not any(one.working for one in client.runtime.hints._growing.values()):  # noqa: SLF001
            return
        await asyncio.sleep(0.005)
    raise AssertionError("hints are worked for without end")


async def rewarded(client: AppClient, body: dict[str, Any]) -> dict[str, Any]:
    answer = await client.post("/reward", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def numbers(answer: dict[str, Any]) -> Any:
    return answer["groups"]


ANSWER = "First nine, then seven more. " * 12
LONG = RESPONSE.replace("</think>", "\n\nCounted again, it is the same number.\n</think>") + ANSWER
PLAIN = {"think": {"mode": "none"}}


@pytest.mark.parametrize(
    ("reward", "changes", "most"),
    [
        ("opera", {"detail": "reward"}, 0.25),
        ("opera", {"detail": "tokens"}, 0.25),
        ("opera", {"detail": "reward", "config": PLAIN}, 0.25),
        ("opera", {"preset": "hardened-1"}, 0.15),
        ("logprob", {"detail": "reward"}, 0.0),
        ("logprob", {"config": PLAIN}, 0.3),
        ("igpo", {"detail": "tokens"}, 0.0),
        ("sar", {}, 0.15),
    ],
)  # fmt: skip
async def test_hints_save_work_and_change_no_bit(tokenizer, reward, changes, most) -> None:
    text = LONG if "config" not in changes else LONG.replace("<think>", "").replace("</think>", "")
    ids = tokenizer.encode(text).tolist()
    async with opened(backend(tokenizer)) as client:
        cold = await rewarded(client, final(ids, reward, **changes))
    told = ids[:-3]
    async with opened(backend(tokenizer)) as client:
        for seq, start in enumerate(range(0, len(told), 7)):
            more = changes if seq == 0 else {}
            answer = await client.post("/reward/hint", json=hint(seq, told[start : start + 7], reward, **more))
            assert (answer.status_code, answer.json()) == (202, {"accepted": True})
            if seq % 3 == 0:
                await settled(client)
        await settled(client)
        warm = await rewarded(client, final(ids, reward, **changes))
        worked = client.runtime.hints.counters()
        metrics = (await client.get("/metrics")).text
    (computed,) = (
        line.split()[1] for line in metrics.splitlines() if line.startswith("opera_tokens_computed_total")
    )
    assert numbers(warm) == numbers(cold)
    assert worked["hints_failed"] == 0
    assert worked["hints_worked"] >= 2
    assert warm["usage"]["tokens_computed"] <= most * cold["usage"]["tokens_computed"]
    assert float(computed) <= 1.02 * cold["usage"]["tokens_computed"]  # nothing was computed for nothing


@pytest.mark.parametrize("spoil", ["lost", "repeated", "reversed", "lying", "nonsense", "other weights"])
async def test_bad_hints_cost_time_only(tokenizer, spoil) -> None:
    ids = tokenizer.encode(RESPONSE).tolist()
    parts = [ids[start : start + 9] for start in range(0, len(ids), 9)]
    sent = [hint(seq, part) for seq, part in enumerate(parts)]
    if spoil == "lost":
        del sent[2]
    if spoil == "repeated":
        sent = [one for one in sent for _ in range(2)]
    if spoil == "reversed":
        sent.reverse()
    if spoil == "lying":
        sent = [hint(seq, part[::-1], "igpo") for seq, part in enumerate(parts)]
    if spoil == "nonsense":
        sent = [hint(0, [10**6]), hint(1, ids, config={"no": 1}), hint(2, ids)]
        sent[0]["reward"] = "none such"
    async with opened(backend(tokenizer)) as client:
        cold = await rewarded(client, final(ids))
    async with opened(backend(tokenizer)) as client:
        for one in sent:
            assert (await client.post("/reward/hint", json=one)).status_code == 202
        if spoil == "other weights":
            await settled(client)
            engine = client.runtime.engine
            await engine.load_weights(model_path() / "model.safetensors", "0")  # the same ones: the same numbers
        warm = await rewarded(client, final(ids))
        await settled(client)
        again = await rewarded(client, final(ids))
    assert numbers(warm) == numbers(cold) == numbers(again)


async def test_an_engine_that_keeps_nothing_wants_no_hints(tokenizer) -> None:
    async with opened() as client:
        answer = await client.post("/reward/hint", json=hint(0, [65]))
        assert (answer.status_code, answer.json()) == (202, {"accepted": False})
        wrong = await client.post("/reward/hint", json={**hint(0, [65]), "prompt": None})
    assert (wrong.status_code, client.runtime.hints.gauges()["hinted_members"]) == (422, 0)


async def test_the_client_sends_as_it_comes_and_waits_for_nothing(tokenizer) -> None:
    ids = tokenizer.encode(RESPONSE).tolist()
    async with (
        opened(backend(tokenizer)) as app,
        AsyncRewardClient("http://app", transport=ASGITransport(app.app)) as client,
    ):
        stream = client.hints(group_id="g", member_id="m", prompt=PROMPT, reference=REFERENCE)
        for start in range(0, len(ids), 5):
            stream.add(ids[start : start + 5])
            await asyncio.sleep(0.01)
        while stream._task is None or not stream._task.done():  # noqa: ASYNC110, SLF001
            await asyncio.sleep(0.005)
        (known,) = app.runtime.hints._growing.values()  # noqa: SLF001
        told = [token for part in known.contiguous() for token in part.token_ids or ()]
        await stream.aclose()
    assert told == ids


async def test_a_service_that_is_down_is_no_error_and_later_hints_bring_what_was_lost() -> None:
    received: list[HintRequest] = []
    down = True

    async def send(hint: HintRequest) -> HintResult:
        if down:
            raise ServiceUnreachable("nobody there")
        received.append(hint)
        return HintResult(accepted=True)

    stream = HintStream(send, {"group_id": "g", "member_id": "m", "prompt": "a", "reference": "b"})
    for token in range(3):
        stream.add([token])
        await asyncio.sleep(0.01)
    down = False
    stream.add([3], mask=[0])
    await asyncio.sleep(0.01)
    assert [(one.seq, one.append.token_ids, one.append.mask) for one in received] == [
        (0, [0], None),
        (1, [1, 2, 3], [1, 1, 0]),
    ]
    assert (received[0].prompt, received[1].prompt) == ("a", None)
    with pytest.raises(InvalidRequest, match="token_ids"):
        stream.add()


async def test_where_hints_are_of_no_use_none_are_sent() -> None:
    sent = 0

    async def send(_: HintRequest) -> HintResult:
        nonlocal sent
        sent += 1
        return HintResult(accepted=False)

    stream = HintStream(send, {"group_id": "g", "member_id": "m", "prompt": "a", "reference": "b"})
    for token in range(5):
        stream.add([token])
        await asyncio.sleep(0.01)
    assert sent == 1


async def test_what_is_known_is_bounded() -> None:
    worked: list[RewardRequest] = []

    async def work(request: RewardRequest) -> None:
        worked.append(request)

    hints = Hints(work, of_use=lambda: True, max_context=100, most_members=3, most_tokens=100)
    for number in range(10):
        about = {"group_id": "g", "member_id": str(number), "prompt": "a", "reference": "b"}
        assert hints.take(HintRequest.model_validate({**about, "seq": 0, "append": {"token_ids": [1] * 30}}), 30)
        assert hints.gauges()["hinted_members"] <= 3
        assert hints.gauges()["hinted_tokens"] <= 100
    await until(lambda: len(worked) >= 3)
    assert [one.groups[0].trajectories[0].response_token_ids for one in worked[-3:]] == [[1] * 30] * 3
    await hints.aclose()
    assert hints.gauges() == {"hinted_members": 0, "hinted_tokens": 0}


def part(seq: int, ids: list[int], **about: Any) -> HintRequest:
    named = {"group_id": "g", "member_id": "m", "prompt": "a", "reference": "b", **about}
    return HintRequest.model_validate({**named, "seq": seq, "append": {"token_ids": ids}})


def test_all_that_a_hint_holds_has_weight() -> None:
    assert weight_of(part(0, [1], prompt="x" * 4000)) > 1000
    assert weight_of(part(0, [1], config={"a": "x" * 4000})) > 1000
    assert weight_of(part(0, [1234] * 1000)) > 1000


async def test_what_is_longer_than_any_context_is_forgotten_and_not_worked_for() -> None:
    worked: list[RewardRequest] = []

    async def work(request: RewardRequest) -> None:
        worked.append(request)

    hints = Hints(work, of_use=lambda: True, max_context=100, most_tokens=1000)
    assert hints.take(part(0, [1]), 1001)
    assert hints.gauges() == {"hinted_members": 0, "hinted_tokens": 0}
    await asyncio.sleep(0.05)
    assert worked == []


async def test_another_step_or_another_beginning_is_another_trajectory() -> None:
    worked: list[RewardRequest] = []

    async def work(request: RewardRequest) -> None:
        worked.append(request)

    def ids() -> list[list[int] | None]:
        return [one.groups[0].trajectories[0].response_token_ids for one in worked]

    hints = Hints(work, of_use=lambda: True, max_context=100)
    for step in (1, 2):
        hints.take(part(0, [step], step=step), 1)
        await until(lambda step=step: [step] in ids())
    hints.take(part(0, [9], step=2), 1)
    await until(lambda: [9] in ids())
    hints.take(part(1, [10], step=2), 1)
    await until(lambda: [9, 10] in ids())
    await hints.aclose()


async def test_wrong_fields_are_told_when_the_stream_is_made() -> None:
    async def send(_: HintRequest) -> HintResult:
        return HintResult(accepted=True)

    with pytest.raises(InvalidRequest) as caught:
        HintStream(send, {"group_id": "g", "member_id": "m", "promt": "a", "reference": "b"})
    assert caught.value.field in ("promt", "prompt")


async def test_a_service_that_refuses_for_good_gets_no_more_hints(caplog) -> None:
    sent = 0

    async def send(_: HintRequest) -> HintResult:
        nonlocal sent
        sent += 1
        raise NotFound("no such route")

    stream = HintStream(send, {"group_id": "g", "member_id": "m", "prompt": "a", "reference": "b"})
    for token in range(3):
        stream.add([token])
        await until(lambda: sent == 1)
    assert "hints of m end here" in caplog.text


def test_parts_with_and_without_a_mask_are_one_trajectory() -> None:
    about = {"group_id": "g", "member_id": "m", "prompt": "a", "reference": "b"}
    parts = [{"token_ids": [1, 2]}, {"token_ids": [3], "mask": [0]}, {"token_ids": [4]}]
    asked = [HintRequest.model_validate({**about, "seq": at, "append": part}) for at, part in enumerate(parts)]
    (known,) = request_of(asked[0], [one.append for one in asked]).groups[0].trajectories
    assert (known.response_token_ids, known.response_mask) == ([1, 2, 3, 4], [1, 1, 0, 1])
    mixed = HintRequest.model_validate(
        {**about, "seq": 1, "append": {"turns": [{"role": "assistant", "content": "a"}]}}
    )
    with pytest.raises(ValueError, match="as token ids or as turns"):
        request_of(asked[0], [asked[0].append, mixed.append])
