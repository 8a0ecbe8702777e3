"""OpenRLHF's form: where the response begins in a query, and numbers that are always there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opera_client.wire import ErrorDetail, MemberResult, ModelInfo, Timing, Usage
from opera_service.pipelines.member_reward import MemberReward
from opera_service.pipelines.openrlhf import response_of, sample_of

PROMPT = "<|im_start|>user\nWhat is 17 + 25?<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("query", "response"),
    [
        (PROMPT + "<think>42", "<think>42"),
        (PROMPT, ""),
        ("<|begin_of_text|>" + PROMPT + "42", "42"),
        (PROMPT[20:] + "42", "42"),
        ("\ufffd" + PROMPT[20:] + "42", "42"),
        (PROMPT[-8:] + "42", "42"),
        (PROMPT + PROMPT + "42", PROMPT + "42"),
        (PROMPT[30:] + "x" * 99 + PROMPT + "42", "x" * 99 + PROMPT + "42"),
        ("something else", None),
        (PROMPT[-7:] + "42", None),
        ("", None),
    ],
)
def test_the_response_is_what_follows_the_prompt_or_the_end_of_it(query, response):
    assert response_of(query, PROMPT) == response


def test_without_a_prompt_everything_is_response():
    assert response_of("42", "") == "42"


@given(st.text("ab", max_size=30), st.text("ab", max_size=30))
def test_the_longest_end_of_the_prompt_counts(prompt, query):
    """Two letters make prompts that overlap themselves in many ways."""
    lengths = [n for n in range(8, min(len(prompt), len(query)) + 1) if query.startswith(prompt[-n:])]
    expected = query[max(lengths) :] if lengths else None
    if prompt in query:  # found whole, where a start token may stand before it
        expected = query[query.index(prompt) + len(prompt) :]
    assert response_of(query, prompt) == expected


def rewarded(reward: float | None, group: tuple[float, ...], *flags: str) -> MemberReward:
    good = reward is not None
    return MemberReward(
        MemberResult(
            id="a",
            status="ok" if good else "error",
            reward=reward,
            components={"relative": 0.5} if good else None,
            error=None if good else ErrorDetail(code="empty_response", message="none"),
            flags=list(flags),
            group_id="g",
            group_size_seen=3,
            model=ModelInfo(name="m", revision="r", weight_version="0", dtype="d", engine="e"),
            config_hash="h",
        ),
        Usage(tokens_naive=0, tokens_computed=0, scored_tokens=0),
        Timing(encode=0, queue=0, engine=0, total=0),
        group,
    )


def test_scores_are_places_between_the_groups_lowest_and_highest():
    group = (-3.0, -1.0, 1.0)
    assert [sample_of(rewarded(one, group), ["relative"])["scores"] for one in group] == [0.0, 0.5, 1.0]


def test_a_group_without_signal_scores_zero_and_is_on_the_grid():
    samples = [sample_of(rewarded(one, (0.7, 0.7 + 1e-9)), ["relative"]) for one in (0.7, 0.7 + 1e-9)]
    assert [sample["rewards"] for sample in samples] == [2867 / 4096] * 2
    assert [(sample["scores"], sample["opera_failed"]) for sample in samples] == [(0.0, 0.0)] * 2


def test_rewards_that_differ_keep_their_digits():
    group = (0.7, 0.7 + 2e-6)
    assert [sample_of(rewarded(one, group), ["relative"])["rewards"] for one in group] == list(group)


@given(st.floats(-8, 8), st.integers(2, 64))
def test_equal_rewards_have_an_advantage_of_exactly_zero(reward, size):
    """The trainer's own arithmetic, `group_norm`, in float32."""
    torch = pytest.importorskip("torch")
    found = [sample_of(rewarded(reward, (reward,) * size), ["relative"])["rewards"] for _ in range(size)]
    rewards = torch.tensor(found).reshape(1, size)
    mean, deviation = rewards.mean(-1, keepdim=True), rewards.std(-1, keepdim=True)
    assert torch.equal((rewards - mean) / (deviation + 1e-9), torch.zeros(1, size))


def test_a_sample_that_cannot_be_scored_gets_its_groups_mean():
    sample = sample_of(rewarded(None, (1.0, 3.0, 5.0)), ["relative"])
    assert (sample["rewards"], sample["scores"], sample["opera_failed"]) == (3.0, 0.5, 1.0)


def test_a_group_that_cannot_be_scored_gets_one_constant():
    sample = sample_of(rewarded(None, ()), ["relative"])
    assert (sample["rewards"], sample["scores"], sample["opera_failed"]) == (0.0, 0.0, 1.0)


def test_the_keys_are_the_same_whatever_happened():
    kinds = [
        rewarded(1.0, (1.0,)),
        rewarded(None, (1.0,)),
        rewarded(None, ()),
        rewarded(1.0, (1.0,), "group_partial"),
        rewarded(1.0, (1.0,), "late_member"),
    ]
    samples = [sample_of(one, ["relative"]) for one in kinds]
    assert len({tuple(sample) for sample in samples}) == 1
    assert [sample["opera_partial"] for sample in samples] == [0.0, 0.0, 0.0, 1.0, 0.0]
    assert [sample["opera_late"] for sample in samples] == [0.0, 0.0, 0.0, 0.0, 1.0]
