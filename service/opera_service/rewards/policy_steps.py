"""Steps of what a policy wrote: its turns, its paragraphs or its tokens. Knows spans, no numbers."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from opera_service.rewards.policy_tokens import Member
from opera_service.trajectories.encoded import Span

Steps = Literal["turns", "segments", "tokens"]


def steps_of(member: Member, steps: Steps) -> list[Span]:
    """Return the spans of the steps, in order; they tile what the policy wrote.

    The answer is the last `segment`; so is a response without a thought.
    """
    written = [span for span in member.numbers.tokens.written if span[0] < span[1]]
    if steps == "turns":
        return written
    if steps == "tokens":
        return [(at, at + 1) for start, end in written for at in range(start, end)]
    ends = sorted({segment.end for segment in member.trajectory.segments if not segment.between})
    found: list[Span] = []
    for start, end in written:
        cuts = [start, *(cut for cut in ends if start < cut < end), end]
        found += pairwise(cuts)
    return found
