"""The paragraphs of a thought with what each did to the reference, as answers and the audit log show them."""

from __future__ import annotations

from opera_client.wire import SegmentResult
from opera_service.rewards.base import Outcome
from opera_service.trajectories.encoded import EncodedTrajectory


def segments_of(trajectory: EncodedTrajectory, outcome: Outcome, *, tokens: bool) -> list[SegmentResult]:
    """Return the priced segments; rewards that price only the end of a trajectory have none."""
    if not outcome.segments:
        return []
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
        for index, (segment, priced) in enumerate(zip(trajectory.segments, outcome.segments, strict=True))
    ]
