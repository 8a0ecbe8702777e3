"""NaN and infinity from the engine: an error of who reads them, never a reward, and nothing to anybody else."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.budget import examples

from opera_service.audit.store import Window, groups, open_for_reading
from opera_service.engines.dummy import DummyEngine
from opera_service.rewards.registry import rewards
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import TokenTree
from opera_service.trajectories.byte_tokenizer import ByteTokenizer

from ..app import on, opened
from .test_operations import samples

Poison = Callable[[bytes, int], bool]
"""Whether the log-probability of the byte at a place is NaN, given the text up to and with it."""
NAMES = "abcd"
PARAGRAPHS = ("17 + 25 is 32.", "Wait, 7 + 5 carries: 42.", "So it is 42, as 30 + 12.", "Hmm, let me add again.")
TEXTS_ALONE = {"empo", "ttrl", "ttrv", "copo", "seed_grpo"}
"""Rewards that compare the texts of answers: what the engine says is not asked, or of the question alone."""
MATH_ALONE = {"unlikeliness", "steer", "clip_cov", "ares", "cepo", "cde"}
"""These refuse open tasks."""
KINDS = [
    (name, preset)
    for name, kind in rewards().items()
    if name not in TEXTS_ALONE | MATH_ALONE and "second_model" not in kind.needs  # for those `test_pair`
    for preset in kind.presets
]


class PoisonedEngine(DummyEngine):
    """The dummy engine, some of whose numbers are none."""

    def __init__(self, poison: Poison, value: float = np.nan) -> None:
        super().__init__(ByteTokenizer.vocab_size)
        self.poison, self.value = poison, value

    async def score(self, trees: Sequence[TokenTree]) -> list[TreeScores]:
        answers = await super().score(trees)
        for tree, scores in zip(trees, answers, strict=True):
            for query in range(tree.num_queries):
                ids, context = tree.query_context(query)
                path = bytes(int(one) % 256 for one in ids)
                for at, pair in enumerate(range(*tree.query_slice(query).indices(tree.num_scored))):
                    if self.poison(path[: context + at + 1], context + at):
                        scores.logprobs[pair] = self.value
        return answers


def marked(text: bytes, at: int) -> bool:
    """A `~` among what was fed makes NaN."""
    return b"~" in text[:at]


def trajectory(name: str, first: int, *, mark: int | None = None) -> dict:
    """Three paragraphs that no other name has; `~` in one of them and in the answer."""
    paragraphs = [f"{name}: {PARAGRAPHS[(first + at) % 4]}" for at in range(3)]
    if mark is not None:
        paragraphs[mark] += "~"
    thought = "\n\n".join(paragraphs)
    return {"id": name, "response": f"<think>\n{thought}\n\n</think>\n\n{40 + first}{'' if mark is None else '~'}"}


def group(trajectories: list[dict], **changes) -> dict:
    return {
        "group_id": "q", "prompt": "What is 17 + 25?\n", "reference": "It is 42.", "trajectories": trajectories,
        **changes,
    }  # fmt: skip


async def ask(client: httpx.AsyncClient, *asked: dict, **changes) -> list[dict]:
    answer = await client.post("/reward", json={"groups": asked, **changes})
    assert answer.status_code == 200, answer.text
    return answer.json()["groups"]


def is_engine_failed(one: dict) -> bool:
    error = one["error"]
    return (one["status"], one["reward"], error["code"], error["retryable"]) == (
        "error", None, "engine_failed", True,
    )  # fmt: skip


def same(found: list[dict], expected: list[dict]) -> bool:
    return [{**one, "flags": set(one["flags"])} for one in found] == [
        {**one, "flags": set(one["flags"])} for one in expected
    ]


@pytest.mark.parametrize(
    ("reward", "preset", "value"),
    [*((*kind, np.nan) for kind in KINDS), *(("opera", "hardened", value) for value in (np.inf, -np.inf))],
)
async def test_a_branch_that_makes_nan_is_one_trajectory_s_error_and_the_rest_is_ranked_without_it(
    reward: str, preset: str, value: float
):
    good = [trajectory(name, first) for first, name in enumerate(NAMES)]
    bad = trajectory("z", 2, mark=1)
    terms = {"rewards": [{"name": "opera"}]} if reward == "sum" else {}
    chosen = {"reward": reward, "preset": preset, "config": terms, "detail": "tokens"}
    async with opened(on(PoisonedEngine(marked, value))) as client, opened() as quiet:
        (expected,) = await ask(quiet, group(good), **chosen)
        for place in (0, 2, 4):
            (found,) = await ask(client, group([*good[:place], bad, *good[place:]]), **chosen)
            (error,) = found["trajectories"][place : place + 1]
            assert is_engine_failed(error)
            assert error["error"]["field"] == f"groups.0.trajectories.{place}"
            assert same([one for one in found["trajectories"] if one is not error], expected["trajectories"])
            assert (found["size"], found["scored"]) == (5, 4)
            assert found["diagnostics"] == expected["diagnostics"]


@settings(max_examples=examples(15), deadline=None)
@given(
    marks=st.lists(st.none() | st.integers(0, 2), min_size=1, max_size=4),
    other=st.lists(st.none() | st.integers(0, 2), min_size=1, max_size=2),
)
def test_whoever_is_spoilt_the_others_have_a_quiet_service_s_answers(marks: list, other: list):
    asked = [
        group([trajectory(name, at, mark=mark) for at, (name, mark) in enumerate(zip(NAMES, each, strict=False))])
        for each in (marks, other)
    ]
    asked[1] |= {"group_id": "r", "prompt": "What is 3 + 4?\n"}

    async def check() -> None:
        async with opened(on(PoisonedEngine(marked))) as client, opened() as quiet:
            answer = await client.post("/reward", json={"groups": asked})
            if None not in marks + other:
                assert (answer.status_code, answer.json()["error"]["code"]) == (500, "engine_failed")
                return
            for sent, found in zip(asked, answer.json()["groups"], strict=True):
                kept = [one for one in sent["trajectories"] if "~" not in one["response"]]
                spoilt = [one for one in found["trajectories"] if one["status"] == "error"]
                assert len(spoilt) == len(sent["trajectories"]) - len(kept)
                assert all(map(is_engine_failed, spoilt))
                if kept:
                    (expected,) = await ask(quiet, {**sent, "trajectories": kept})
                    good = [one for one in found["trajectories"] if one["status"] == "ok"]
                    assert same(good, expected["trajectories"])

    asyncio.run(check())


@settings(max_examples=examples(15), deadline=None)
@given(st.data())
def test_wherever_the_number_is_missing_only_who_reads_it_fails(data: st.DataObject):
    """One number of the tree, drawn from all; who reads it is found by asking for each trajectory alone."""
    sent = [trajectory(name, first) for first, name in enumerate(NAMES)]
    seen: set[bytes] = set()

    def note(text: bytes, at: int) -> bool:
        seen.add(text)
        return False

    async def every_number() -> list[bytes]:
        async with opened(on(PoisonedEngine(note))) as client:
            await ask(client, group(sent))
        return sorted(seen)

    spot = data.draw(st.sampled_from(asyncio.run(every_number())))

    async def check() -> None:
        engine = PoisonedEngine(lambda text, _: text == spot)
        async with opened(on(engine), cache_mb=0) as client, opened() as quiet:
            alone = [
                (await client.post("/reward", json={"groups": [group([one])]})).status_code == 200 for one in sent
            ]
            answer = await client.post("/reward", json={"groups": [group(sent)]})
            if not any(alone):
                assert answer.status_code == 500
                return
            found = answer.json()["groups"][0]["trajectories"]
            assert [one["status"] == "ok" for one in found] == alone
            (expected,) = await ask(quiet, group([one for one, well in zip(sent, alone, strict=True) if well]))
            assert same([one for one in found if one["status"] == "ok"], expected["trajectories"])

    asyncio.run(check())


THINK, CLOSE = b"\x00", b"\x01"
"""The byte tokenizer's ids of the tags, as this engine shows them."""
SHARED: dict[str, Callable[[bytes], bool]] = {
    "trunk": lambda text: text.startswith(b"What is 17"),
    "one token of the reference, after every context": lambda text: text.endswith(b"It is 42"),
    "before any thought": lambda text: text.endswith(b"?\n" + THINK + b"\n" + CLOSE + b"\n\nAnswer:\nIt"),
}


@pytest.mark.parametrize("where", SHARED)
async def test_what_all_share_fails_its_group_and_no_other(where: str):
    """Alone, such a group is a request of which nothing could be scored: it may be sent again as a whole."""

    def poison(text: bytes, at: int) -> bool:
        return SHARED[where](text)

    pair = [trajectory("a", 0), trajectory("b", 1)]
    other = group(pair, group_id="other", prompt="Name a sea.\n", reference="The Baltic.")
    async with opened(on(PoisonedEngine(poison))) as client, opened() as quiet:
        bad, good = await ask(client, group(pair), other)
        assert all(map(is_engine_failed, bad["trajectories"]))
        assert bad["scored"] == 0
        assert good == (await ask(quiet, other))[0]
        alone = await client.post("/reward", json={"groups": [group(pair)]})
        assert (alone.status_code, alone.json()["error"]["code"]) == (500, "engine_failed")
        assert alone.json()["error"]["retryable"]


async def test_what_is_not_finite_is_neither_cached_nor_logged_as_a_reward_nor_part_of_a_run_s_health(
    tmp_path: Path,
):
    path = tmp_path / "audit.db"
    sent = group([trajectory("a", 0), trajectory("b", 1, mark=0), trajectory("c", 2)])
    engine = PoisonedEngine(marked)
    async with opened(on(engine), audit=path) as client:
        (first,) = await ask(client, sent, run_id="r")
        metrics = samples((await client.get("/metrics")).text)
        assert metrics["opera_run_window_trajectories", ("r",)] == 2
        told = [one["reward"] for one in first["trajectories"] if one["reward"] is not None]
        assert metrics["opera_run_reward_mean", ("r",)] == pytest.approx(sum(told) / 2)
        assert metrics["opera_trajectory_reward_count", ("hardened", "opera")] == 2
        assert metrics["opera_trajectories_total", ("hardened", "opera", "error")] == 1
        assert metrics["opera_cache_entries", ()] == 0
        engine.poison = lambda *_: False
        (again,) = await ask(client, sent, run_id="r")
        assert [one["status"] for one in again["trajectories"]] == ["ok"] * 3
        assert samples((await client.get("/metrics")).text)["opera_cache_hits_total", ()] == 0
    (_, members), _ = groups(open_for_reading(path), Window())
    logged = [(one["status"], one["reward"], one["error"]) for one in members]
    assert logged == [("ok", told[0], None), ("error", None, "engine_failed"), ("ok", told[1], None)]


async def test_a_member_gets_its_own_error_and_the_others_their_rewards():
    sent = [trajectory("a", 0), trajectory("b", 1, mark=0), trajectory("c", 2)]
    whole = group([])
    bodies = [
        {
            "prompt": whole["prompt"], "reference": whole["reference"], "response": one["response"],
            "group_id": "g", "group_size": 3, "member_id": one["id"], "wait_s": 30,
        }
        for one in sent
    ]  # fmt: skip
    async with opened(on(PoisonedEngine(marked))) as client, opened() as quiet:
        a, b, c = [
            answer.json()
            for answer in await asyncio.gather(*(client.post("/reward/member", json=body) for body in bodies))
        ]
        (expected,) = await ask(quiet, group([sent[0], sent[2]]))
        assert [a["reward"], c["reward"]] == [one["reward"] for one in expected["trajectories"]]
        assert is_engine_failed(b)
        assert b["error"]["field"] == "response"


async def test_an_item_to_score_or_to_rank_fails_alone():
    items = [{"context": context, "target": "42", "entropy": True} for context in ("17+25=", "17~25=", "3+39=")]
    ranked = [{"prompt": "17+25=", "candidates": ["42", "4~2", "41"]}, {"prompt": "~", "candidates": ["42", "41"]}]
    async with opened(on(PoisonedEngine(marked))) as client, opened() as quiet:
        found = (await client.post("/score", json={"items": items})).json()["items"]
        expected = (await quiet.post("/score", json={"items": items})).json()["items"]
        assert [found[0], found[2]] == [expected[0], expected[2]]
        assert (found[1]["status"], found[1]["error"]["code"]) == ("error", "engine_failed")
        assert found[1]["sum_logprob"] is None

        first, second = (await client.post("/rank", json={"items": ranked})).json()["items"]
        assert sorted(first["ranking"]) == [0, 2]
        assert first["candidates"][1]["error"]["code"] == "engine_failed"
        assert first["candidates"][1]["score"] is None
        assert (second["status"], second["ranking"]) == ("error", [])
        all_bad = await client.post("/score", json={"items": items[1:2]})
        assert (all_bad.status_code, all_bad.json()["error"]["code"]) == (500, "engine_failed")


async def test_completions_fail_only_for_prompts_that_read_it():
    asked = {"max_tokens": 0, "echo": True, "logprobs": 1}
    async with opened(on(PoisonedEngine(marked))) as client:
        good = await client.post("/v1/completions", json={**asked, "prompt": ["17+25=42", "3+39=42"]})
        assert good.status_code == 200
        bad = await client.post("/v1/completions", json={**asked, "prompt": ["17+25=42", "3~39=42"]})
        assert (bad.status_code, bad.json()["error"]["code"]) == (500, "engine_failed")


async def test_the_canary_of_weights_that_serve_is_an_error_too():
    async with opened(on(PoisonedEngine(lambda *_: True))) as client:
        answer = await client.get("/policy")
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "engine_failed")


async def test_branches_that_cannot_be_ranked_fail_with_their_item():
    items = [{"prompt": prompt, "n": 2, "max_tokens": 3, "seed": 1} for prompt in ("17+25=", "17~25=")]
    async with opened(on(PoisonedEngine(marked))) as client, opened() as quiet:
        found = (await client.post("/expand", json={"items": items})).json()["items"]
        expected = (await quiet.post("/expand", json={"items": items})).json()["items"]
        assert found[0] == expected[0]
        assert found[1]["ranking"] == []
        assert [one["error"]["code"] for one in found[1]["candidates"]] == ["engine_failed"] * 2
