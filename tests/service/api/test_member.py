"""POST /reward/member: one trajectory in, its reward within its group out."""

import asyncio

import httpx
import pytest

from opera_client.errors import EngineFailed
from opera_client.wire import MemberResult
from opera_service.engines.dummy import DummyEngine
from opera_service.trajectories.byte_tokenizer import ByteTokenizer

from ..app import on, opened
from ..until import until
from .conftest import FussyEngine, group

RESPONSES = {
    "a": "<think>\n17 + 25 is 32.\n\nWait, 7 + 5 carries: 42.\n\n</think>\n\n42",
    "b": "<think>\nI would say 32.\n\n</think>\n\n32",
    "c": "<think>\nMaybe 40?\n\nHmm, no.\n\n</think>\n\n40",
}
ASKED = {"preset": "hardened-1", "config": {"context": {"bridge": ""}}, "detail": "tokens"}


def member(name: str, size: int = 3, **changes) -> dict:
    """One member of the group q1 that waits for the others."""
    return {
        **ASKED,
        "run_id": "run",
        "step": 3,
        "group_id": "q1",
        "group_size": size,
        "member_id": name,
        "prompt": "What is 17 + 25?\n",
        "reference": "42",
        "response": RESPONSES.get(name, name),
        "wait_s": 30,
        **changes,
    }


async def post(client: httpx.AsyncClient, *bodies: dict) -> list[httpx.Response]:
    """Send all at once, in this order."""
    return await asyncio.gather(*(client.post("/reward/member", json=body) for body in bodies))


async def parked(client: httpx.AsyncClient, body: dict) -> asyncio.Task[httpx.Response]:
    """Send a member that opens a group, and return once it waits there."""
    book = client.runtime.gatherer.state
    before = book.waiting_groups
    task = asyncio.create_task(client.post("/reward/member", json=body))
    await until(lambda: book.waiting_groups > before or task.done())
    assert not task.done()
    return task


async def good(client: httpx.AsyncClient, *bodies: dict) -> list[dict]:
    answers = await post(client, *bodies)
    assert [answer.status_code for answer in answers] == [200] * len(bodies), [one.text for one in answers]
    return [MemberResult.model_validate_json(answer.content).model_dump() for answer in answers]


async def bad(client: httpx.AsyncClient, body: dict, status: int, code: str, field: str | None = None) -> dict:
    (answer,) = await post(client, body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["field"]) == (status, code, field), error
    return error


async def direct(client: httpx.AsyncClient, *names: str) -> list[dict]:
    """The trajectories of one /reward call on these members."""
    whole = group(trajectories=[{"id": name, "response": RESPONSES[name]} for name in names])
    answer = await client.post("/reward", json={**ASKED, "groups": [whole]})
    return answer.json()["groups"][0]["trajectories"]


def trajectory(answer: dict) -> dict:
    """The part of a member's answer that /reward gives, too."""
    extra = {"group_id", "group_size_seen", "model", "second_model", "config_hash"}
    return {name: value for name, value in answer.items() if name not in extra}


@pytest.mark.parametrize("order", ["abc", "cab"])
async def test_members_get_exactly_what_their_group_gets_from_reward(client, order):
    answers = await good(client, *map(member, order))
    expected = {one["id"]: one for one in await direct(client, *"abc")}
    assert [trajectory(answer) for answer in answers] == [expected[name] for name in order]
    assert len({answer["reward"] for answer in answers}) == 3
    for answer in answers:
        assert (answer["group_id"], answer["group_size_seen"], answer["flags"]) == ("q1", 3, [])
        assert (answer["model"]["engine"], answer["model"]["weight_version"]) == ("dummy", "0")


class Remembering(DummyEngine):
    """The dummy engine with a memory of what it was given."""

    def __init__(self) -> None:
        super().__init__(ByteTokenizer.vocab_size)
        self.seen: list[list[int]] = []

    async def score(self, trees):
        self.seen += [tree.tokens.tolist() for tree in trees]
        return await super().score(trees)


async def test_who_came_first_makes_no_difference_to_the_engine():
    engine = Remembering()
    async with opened(on(engine), cache_mb=0) as client:
        for order in ("abc", "cab"):
            await good(client, *(member(name, group_id=order) for name in order))
    assert len(engine.seen) == 2
    assert engine.seen[0] == engine.seen[1]


async def test_the_answer_carries_request_id_and_cost_headers(client):
    (answer,) = await post(client, member("a", 1))
    for header in ("X-Request-Id", "X-Queue-Ms", "X-Engine-Ms", "X-Tokens-Computed", "X-Route"):
        assert header in answer.headers


async def test_an_id_of_its_own_names_the_trajectory(client):
    (answer,) = await good(client, member("a", 1, id="mine"))
    assert answer["id"] == "mine"


async def test_token_ids_and_messages_work_as_in_reward(client):
    ids = list(b"<think>\nno\n\n</think>42")
    changes = {"prompt": [{"role": "user", "content": "2?"}], "response": None, "response_token_ids": ids}
    (answer,) = await good(client, member("a", 1, **changes))
    whole = {
        "prompt": changes["prompt"],
        "reference": "42",
        "trajectories": [{"id": "a", "response_token_ids": ids}],
    }
    expected = await client.post("/reward", json={**ASKED, "groups": [whole]})
    assert trajectory(answer) == expected.json()["groups"][0]["trajectories"][0]


@pytest.mark.parametrize(
    "change", [{"run_id": "other"}, {"step": 4}, {"group_id": "q2"}, {"preset": "paper"}, {"reward": "logprob"}]
)
async def test_members_of_different_groups_never_meet(client, change):
    (alone,) = await good(client, member("a", 2, wait_s=0, **change))
    assert alone["group_size_seen"] == 1
    (alone,) = await good(client, member("b", 2, wait_s=0))
    assert alone["group_size_seen"] == 1


async def test_members_with_turns_get_what_their_group_gets_from_reward(client):
    turns = [{"role": "assistant", "content": RESPONSES["a"]}, {"role": "tool", "content": "42"}]
    own = [{"turns": [*turns, turns[0]]}, {"response_token_ids": [65, 66, 67], "response_mask": [1, 0, 1]}]
    shared = {"reward": "igpo", "preset": "hardened", "config": {}, "prompt": [{"role": "user", "content": "?"}]}
    bodies = [member(name, 2, response=None, **shared, **one) for name, one in zip("ab", own, strict=True)]
    answers = await good(client, *bodies)
    whole = {"prompt": shared.pop("prompt"), "reference": "42", "trajectories": own}
    told = (await client.post("/reward", json={**shared, "detail": "tokens", "groups": [whole]})).json()
    for answer, expected in zip(answers, told["groups"][0]["trajectories"], strict=True):
        assert answer["steps"] == expected["steps"]
        assert [step["turn"] for step in answer["steps"]] == [0, 1]
        assert answer["segments"] == expected["segments"]


async def test_a_member_that_comes_again_gets_the_same_answer_and_counts_once(client):
    first, again, other = await good(client, member("a", 2), member("a", 2), member("b", 2))
    (later,) = await good(client, member("a", 2, wait_s=0, timeout_s=5))
    assert first == again == later
    assert other["group_size_seen"] == 2


async def test_a_member_whose_caller_hung_up_keeps_its_place(client):
    gone = await parked(client, member("a", 2))
    gone.cancel()
    (other,) = await good(client, member("b", 2))
    assert other["group_size_seen"] == 2
    (again,) = await good(client, member("a", 2))
    assert trajectory(again) == (await direct(client, "a", "b"))[0]


async def test_partial_rewards_the_members_present_and_late_ones_join_them(client):
    patient = await parked(client, member("b"))
    answers = await good(client, member("a", wait_s=0)) + [(await patient).json()]
    assert [answer["flags"] for answer in answers] == [["group_partial"]] * 2
    assert [answer["reward"] for answer in answers] == [one["reward"] for one in await direct(client, "a", "b")]
    (late,) = await good(client, member("c"))
    assert (late["flags"], late["group_size_seen"]) == (["late_member"], 3)
    assert late["reward"] == (await direct(client, "a", "b", "c"))[2]["reward"]
    assert (await good(client, member("a"))) == answers[:1]


async def test_error_answers_408_and_the_retry_finds_its_place(client):
    asks = {"size": 2, "on_timeout": "error"}
    error = await bad(client, member("a", wait_s=0, **asks), 408, "group_incomplete")
    assert error["retryable"]
    again, other = await good(client, member("a", **asks), member("b", **asks))
    assert [again["group_size_seen"], other["group_size_seen"]] == [2, 2]


async def test_a_deadline_ends_the_wait_and_the_retry_finds_its_place(client):
    error = await bad(client, member("a", 2, timeout_s=0.5), 504, "deadline_exceeded")
    assert error["retryable"]
    again, _ = await good(client, member("a", 2), member("b", 2))
    assert again["group_size_seen"] == 2


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"group_size": 3}, "group_size"),
        ({"on_timeout": "error"}, "on_timeout"),
        ({"prompt": "What is 1 + 1?\n"}, "prompt"),
        ({"reference": "43"}, "reference"),
        ({"task": "math"}, "task"),
        ({"detail": "reward"}, "detail"),
        ({"weight_version": "0"}, "weight_version"),
    ],
)
async def test_a_member_that_contradicts_its_group_is_told_the_field(client, change, field):
    waiting = await parked(client, member("a", 2))
    await bad(client, {**member("b", 2), **change}, 422, "invalid_request", field)
    await good(client, member("b", 2))
    assert (await waiting).status_code == 200


async def test_the_same_member_with_another_response_is_a_conflict(client):
    await good(client, member("a", 1))
    error = await bad(client, member("a", 1, response="something else"), 409, "member_conflict", "member_id")
    assert not error["retryable"]
    await bad(client, member("b", 1), 409, "member_conflict", "member_id")


@pytest.mark.parametrize(
    ("change", "status", "code", "field"),
    [
        ({"weight_version": "7"}, 409, "weight_version_mismatch", "weight_version"),
        ({"reward": "nonsense"}, 422, "invalid_request", "reward"),
        ({"preset": "nonsense"}, 422, "invalid_request", "preset"),
        ({"config": {"nonsense": 1}}, 422, "invalid_request", "config.nonsense"),
        ({"group_size": 0}, 422, "invalid_request", "group_size"),
        ({"wait_s": -1}, 422, "invalid_request", "wait_s"),
        ({"wait_s": 3601}, 422, "invalid_request", "wait_s"),
        ({"on_timeout": "zero"}, 422, "invalid_request", "on_timeout"),
        ({"member_id": ""}, 422, "invalid_request", "member_id"),
        ({"nonsense": 1}, 422, "invalid_request", "nonsense"),
        ({"response": None}, 422, "invalid_request", None),
        ({"prompt": None}, 422, "invalid_request", None),
        ({"reference": None}, 422, "invalid_request", "reference"),
    ],
)
async def test_a_bad_member_is_refused_and_takes_no_place(client, change, status, code, field):
    await bad(client, {**member("a", 1), **change}, status, code, field)
    await good(client, member("a", 1))


async def test_a_member_that_cannot_be_scored_has_its_own_error_and_spoils_nothing(client):
    broken, fine, also = await good(client, member("a", response=""), member("b"), member("c"))
    assert (broken["status"], broken["reward"]) == ("error", None)
    assert (broken["error"]["code"], broken["error"]["field"]) == ("empty_response", "response")
    assert [fine["reward"], also["reward"]] == [one["reward"] for one in await direct(client, "b", "c")]


async def test_a_fault_of_the_whole_group_names_the_members_field(client):
    (answer,) = await good(client, member("a", 1, reference=""))
    assert (answer["error"]["code"], answer["error"]["field"]) == ("empty_reference", "reference")


async def test_an_engine_failure_reaches_every_member_and_a_retry_is_scored_afresh():
    engine = FussyEngine(bad_token=ord("?"), error=EngineFailed("the engine is ill"))
    async with opened(on(engine)) as client:
        answers = await post(client, member("a", 2), member("b", 2))
        assert [answer.status_code for answer in answers] == [500, 500]
        assert all(answer.json()["error"]["code"] == "engine_failed" for answer in answers)
        engine.bad_token = ByteTokenizer.vocab_size  # never seen: the engine is well again
        (again,) = await good(client, member("b", 2))
        assert again["group_size_seen"] == 2


@pytest.mark.parametrize(
    "limit", [{"max_waiting_groups": 1}, {"max_waiting_members": 2}, {"max_waiting_tokens": 70}]
)
async def test_overload_is_typed_says_when_to_retry_and_passes(limit):
    async with opened(**limit) as client:
        first = await parked(client, member("a", 2))
        (refused,) = await post(client, member("a", 2, group_id="q2"))
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
        assert int(refused.headers["Retry-After"]) >= 1
        await good(client, member("b", 2))
        assert (await first).status_code == 200
        await good(client, member("a", 2, group_id="q2"), member("b", 2, group_id="q2"))


@pytest.mark.parametrize("limit", ["max_waiting_members", "max_waiting_tokens"])
async def test_a_group_that_can_never_fit_is_refused_for_good(limit):
    async with opened(**{limit: 1}) as client:
        await bad(client, member("a", 2), 422, "invalid_request", "group_size")


async def test_one_kept_answer_is_a_setting():
    async with opened(max_kept_answers=1) as client:
        await good(client, member("a", 1))
        await good(client, member("a", 1, group_id="q2"))  # one after the other: the newest answer is the one kept
        await bad(client, member("b", 1, group_id="q2"), 409, "member_conflict", "member_id")
        await good(client, member("b", 1))


async def test_how_long_answers_and_places_are_kept_are_settings():
    async with opened(keep_answers_s=0.01, keep_members_s=0.01) as client:
        await good(client, member("a", 1))
        await bad(client, member("a", 2, group_id="q2", wait_s=0, on_timeout="error"), 408, "group_incomplete")
        await asyncio.sleep(0.05)
        await good(client, member("b", 1))
        assert "opera_groups_expired_total 1.0" in (await client.get("/metrics")).text.splitlines()


async def test_what_waits_and_what_became_of_it_are_metrics(client):
    waiting = await parked(client, member("a", 2))
    text = (await client.get("/metrics")).text
    assert "opera_groups_waiting 1.0" in text
    assert "opera_group_places_waiting 2.0" in text
    await good(client, member("b", 2), member("b", 2))
    await waiting
    await good(client, member("a", 2, group_id="q2", wait_s=0))
    lines = (await client.get("/metrics")).text.splitlines()
    for line in (
        "opera_groups_waiting 0.0",
        "opera_groups_complete_total 1.0",
        "opera_groups_partial_total 1.0",
        "opera_groups_duplicates_total 1.0",
        "opera_groups_expired_total 0.0",
        "opera_group_answers_kept 3.0",
    ):
        assert line in lines


async def test_draining_refuses_those_who_wait_for_others():
    async with opened() as client:
        waiting = await parked(client, member("a", 2))
        client.lifecycle.drain()
        answer = await waiting
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
        await bad(client, member("b", 2), 503, "unavailable")
