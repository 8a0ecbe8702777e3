"""When a scored group has answers, and what they weigh while they are remembered."""

import pytest

from opera_client.errors import EngineFailed
from opera_client.wire import ErrorDetail, MemberResult, ModelInfo, SegmentResult, Timing, TrajectoryResult, Usage
from opera_service.pipelines.group_batch import raise_if_nothing_is_final
from opera_service.pipelines.member_reward import MemberReward, text_tokens, weight


def answer(
    segments: list[SegmentResult] | None, logprobs: list[float] | None = None, **more: list[float]
) -> MemberReward:
    result = MemberResult(
        id="a",
        status="ok",
        segments=segments,
        token_logprobs=logprobs,
        group_id="g",
        group_size_seen=1,
        model=ModelInfo(name="m", revision="r", weight_version="0", dtype="d", engine="e"),
        config_hash="h",
        **more,
    )
    nothing = Usage(tokens_naive=0, tokens_computed=0, scored_tokens=0)
    return MemberReward(result, nothing, Timing(encode=0, queue=0, engine=0, total=0), (1.0,))


def segment(text: str, logprobs: list[float] | None = None) -> SegmentResult:
    return SegmentResult(
        index=0,
        start=0,
        end=9,
        text=text,
        reflective=False,
        mean_logprob=-1.0,
        gain=0.0,
        credited=False,
        token_logprobs=logprobs,
    )


def test_texts_count_a_token_for_four_characters_and_numbers_one_each():
    bare = weight(answer(None))
    assert bare > 0
    assert weight(answer(None, [0.0] * 7)) == bare + 7
    assert weight(answer(None, token_rewards=[0.0] * 20, token_weights=[1.0] * 30)) == bare + 50
    short, long = (weight(answer([segment(text)])) for text in ("", "x" * 400))
    assert (short > bare, long) == (True, short + 100)
    assert weight(answer([segment("", [0.0] * 50)] * 3)) == weight(answer([segment("")] * 3)) + 150


def test_no_text_is_free():
    assert [text_tokens("x" * length) for length in (0, 3, 4, 8)] == [1, 1, 2, 3]


GOOD = TrajectoryResult(id="a", status="ok", reward=1.0)
PASSING = TrajectoryResult(
    id="b", status="error", error=ErrorDetail(code="engine_failed", message="ill", retryable=True)
)
FINAL = TrajectoryResult(id="c", status="error", error=ErrorDetail(code="empty_response", message="no tokens"))


def test_a_group_in_which_nothing_is_scored_but_may_be_later_has_failed():
    for results in ([PASSING], [FINAL, PASSING]):
        with pytest.raises(EngineFailed, match="ill"):
            raise_if_nothing_is_final(results)


def test_a_group_with_a_reward_or_with_nothing_to_hope_for_has_its_answers():
    for results in ([GOOD], [GOOD, PASSING], [FINAL], [FINAL, FINAL]):
        raise_if_nothing_is_final(results)
