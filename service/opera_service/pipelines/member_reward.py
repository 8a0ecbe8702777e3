"""What a member of a gathered group gets, and what it costs to remember."""

from __future__ import annotations

from dataclasses import dataclass

from opera_client.wire import MemberResult, Timing, Usage


@dataclass(frozen=True)
class MemberReward:
    """A member's answer, and what its group's scoring cost."""

    result: MemberResult
    usage: Usage
    timing: Timing
    group: tuple[float, ...]
    """Rewards of all members that were scored together."""


def text_tokens(text: str) -> int:
    """Return about how many tokens a text has: one for four characters, at least one."""
    return 1 + len(text) // 4


def weight(member: MemberReward) -> int:
    """Return what an answer costs in memory, in tokens: its numbers, and its texts by length."""
    result, segments = member.result, member.result.segments or []
    arrays = [result.token_logprobs, result.token_rewards, result.token_weights]
    arrays += [one.token_logprobs for one in segments]
    numbers = sum(len(one or ()) for one in arrays) + 4 * len(result.steps or ())
    return 16 + numbers + sum(16 + text_tokens(one.text) for one in segments)
