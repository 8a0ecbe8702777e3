"""The paragraphs and turns of a trajectory with what each did to the reference, as answers show them."""

from __future__ import annotations

from opera_client.wire import SegmentResult, StepResult
from opera_service.rewards.base import Outcome
from opera_service.trajectories.encoded import EncodedTrajectory


def segments_of(trajectory: EncodedTrajectory, outcome: Outcome, *, tokens: bool) -> list[SegmentResult]:
    """Return the priced segments; rewards that price only the end of a trajectory have none."""
    if not outcome.segments:
        return []
    pairs = zip(trajectory.segments, outcome.segments, strict=True)
    paragraphs = [(segment, priced) for segment, priced in pairs if not segment.between]
    return [
        SegmentResult(
            index=index,
            start=segment.start,
            end=segment.end,
            text=segment.text,
            reflective=segment.reflective,
            mean_logprob=priced.mean_logprob,
            gain=priced.gain,
            credited=priced.credited,
            token_logprobs=priced.token_logprobs.tolist() if tokens else None,
        )
        for index, (segment, priced) in enumerate(paragraphs)
    ]


def steps_of(trajectory: EncodedTrajectory, outcome: Outcome) -> list[StepResult] | None:
    """Return what each of the policy's turns did; None without turns, or without a reference."""
    if not (trajectory.turns and outcome.steps):
        return None
    pairs = zip(trajectory.turns, outcome.steps, strict=True)
    return [
        StepResult(
            turn=number,
            start=turn.start,
            end=turn.end,
            mean_logprob=step.mean_logprob,
            gain=step.gain,
            reward=step.reward,
        )
        for number, (turn, step) in enumerate(pairs)
    ]
