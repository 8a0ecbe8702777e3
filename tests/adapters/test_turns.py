"""What trainers carry of several turns, in the wire's words; slime by its call shape."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.adapters.gate import Gate

from opera_adapters import slime
from opera_adapters._tool_mask import tool_mask
from opera_adapters.groups import GroupReward
from opera_adapters.reward import OperaReward
from opera_adapters.turns import masked, of_calls, of_messages, of_ranges, steps_of
from opera_client import RewardClient
from opera_client.wire import StepResult, Trajectory, TrajectoryResult

CALLED = "<think>\nI should add.\n</think>\n\nadd(17, 25)"
ANSWERED = "<think>\nThe tool says 42.\n</think>\n\nIt is 42."


def ids(text: str) -> list[int]:
    return list(text.encode())


def test_a_mask_of_ones_is_one_response() -> None:
    assert masked([5, 6], [True, 1.0]) == masked([5, 6], None) == {"response_token_ids": [5, 6]}
    assert masked([5, 6, 7], [1, 0.0, True]) == {"response_token_ids": [5, 6, 7], "response_mask": [1, 0, 1]}


RUNS = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=4)


@given(st.lists(st.integers(0, 99), max_size=5), RUNS)
def test_ranges_and_calls_say_what_a_mask_says(prompt: list[int], runs: list[tuple[int, int]]) -> None:
    path, mask, ranges, calls = list(prompt), [], [], []
    for number, (written, said) in enumerate(runs):
        calls.append((list(path), [100 + number] * written))
        ranges.append((len(path), len(path) + written))
        path += [100 + number] * written + [200 + number] * said
        mask += [1] * written + [0] * said
    end = ranges[-1][1]
    expected = masked(path[len(prompt) : end], mask[: end - len(prompt)])
    assert of_ranges(path, ranges) == of_calls(calls) == expected
    Trajectory.model_validate(expected)


def test_calls_that_do_not_continue_are_no_trajectory() -> None:
    assert of_calls([([1], [2, 3]), ([1, 9, 3, 4], [5])]) is None
    assert of_calls([]) is None


def test_a_result_without_steps_is_one_step() -> None:
    result = TrajectoryResult(id="a", status="ok", reward=0.5)
    assert steps_of(result, 7) == [(7, 0.5)]
    step = {"turn": 0, "start": 0, "mean_logprob": -1.0, "gain": 0.1}
    result.steps = [StepResult(end=3, reward=0.2, **step), StepResult(end=7, reward=0.3, **step)]
    assert steps_of(result, 7) == [(3, 0.2), (7, 0.3)]
    result.reward = None
    assert steps_of(result, 7) == []


def test_a_groups_members_have_steps_that_add_up(service: Gate) -> None:
    tried = [masked(ids(CALLED) + ids("42") + ids(ANSWERED), [1] * len(CALLED) + [0] * 2 + [1] * len(ANSWERED))]
    tried.append({"response_token_ids": ids(ANSWERED)})
    question = {"prompt_token_ids": ids("17 + 25?"), "reference": "42"}
    members = asyncio.run(GroupReward(service.url, reward="logprob")(question, tried))
    assert [[end for end, _ in one.steps] for one in members] == [
        [len(CALLED), len(CALLED) + 2 + len(ANSWERED)],
        [len(ANSWERED)],
    ]
    for one in members:
        assert sum(reward for _, reward in one.steps) == pytest.approx(
            one.reward, abs=2**-11
        )  # rewards are rounded


def test_slimes_loss_mask_is_the_mask(service: Gate) -> None:
    slime._default.cache_clear()  # noqa: SLF001
    written = ids(CALLED) + ids("42") + ids(ANSWERED)
    mask = [1] * len(CALLED) + [0] * 2 + [1] * len(ANSWERED)
    sample = SimpleNamespace(
        tokens=ids("17 + 25?") + written, response_length=len(written), response="", label="42", loss_mask=mask,
        metadata={}, remove_sample=False,
    )  # fmt: skip
    asyncio.run(slime.reward(SimpleNamespace(reward_key=None), [sample]))
    (sent,) = service.bodies[0]["groups"][0]["trajectories"]
    assert {"response_token_ids": written, "response_mask": mask}.items() <= sent.items()
    assert not sample.remove_sample


COMPLETION = [
    {"role": "assistant", "content": CALLED},
    {"role": "tool", "name": "add", "content": "42"},
    {"role": "assistant", "content": ANSWERED},
]
END = 258


def suffix(said: list[dict[str, Any]]) -> list[int]:
    return ids("".join(f"\ntool: {one['content']}\nassistant: " for one in said))


TRAINER = SimpleNamespace(_get_tool_suffix_ids=suffix, _tokenizer=SimpleNamespace(eos_token_id=END))
ROLLED = [*ids(CALLED), END, *suffix(COMPLETION[1:2]), *ids(ANSWERED), END]
MASK = [1] * (len(CALLED) + 1) + [0] * len(suffix(COMPLETION[1:2])) + [1] * (len(ANSWERED) + 1)


def test_a_tools_tokens_are_found_in_trls_completion() -> None:
    assert tool_mask(COMPLETION, ROLLED, TRAINER) == MASK
    forged = [*ids(CALLED), *suffix(COMPLETION[1:2]), *ROLLED[len(CALLED) :]]  # the policy writes the tool's words
    assert tool_mask(COMPLETION, forged, TRAINER) == [1] * len(suffix(COMPLETION[1:2])) + MASK


@pytest.mark.parametrize(
    ("completion", "rolled", "trainer"),
    [
        (COMPLETION, ROLLED, None),
        (COMPLETION, ROLLED[1:-1], SimpleNamespace(_get_tool_suffix_ids=suffix, _tokenizer=SimpleNamespace())),
        (COMPLETION, [one for one in ROLLED if one != END], TRAINER),
        (COMPLETION, [*ids(CALLED), END, *ids(ANSWERED), END], TRAINER),
        ([COMPLETION[0], {"role": "user", "content": "42"}, COMPLETION[2]], ROLLED, TRAINER),
    ],
)
def test_where_that_is_not_sure_there_is_no_mask(completion, rolled, trainer) -> None:
    assert tool_mask(completion, rolled, trainer) is None


@pytest.mark.parametrize("form", ["messages", "column"])
def test_a_reward_function_sends_turns(service: Gate, form: str) -> None:
    """Without a trainer in sight the messages go; a `rollout_func` may bring a mask."""
    asked = [{"role": "user", "content": "17 + 25?"}]
    columns: dict[str, Any] = {"reference": ["42"] * 2}
    if form == "column":
        columns["response_mask"] = [MASK, [1] * len(ANSWERED)]
    reward = OperaReward(service.url, reward="igpo", num_generations=2)
    found = asyncio.run(reward([asked] * 2, [COMPLETION, COMPLETION[2:]], [ROLLED, ids(ANSWERED)], **columns))
    first, second = service.bodies[0]["groups"][0]["trajectories"]
    if form == "column":
        assert first["response_mask"] == MASK
        assert second.get("response_mask") is None
    else:
        assert [turn["role"] for turn in first["turns"]] == ["assistant", "tool", "assistant"]
        assert second["response_token_ids"] == ids(ANSWERED)
    tried = [of_messages(COMPLETION), {"response_token_ids": ids(ANSWERED)}]
    with RewardClient(service.url) as client:
        told = client.reward([{"prompt": asked, "reference": "42", "trajectories": tried}], reward="igpo")
    assert found == pytest.approx(told.rewards[0])
