"""How a synthesis went: what was kept, what was right, what it cost. Knows finished searches, no service."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from opera_client.wire import ErrorDetail
from opera_trainer.artefacts import Estimate, Row, Task, Trace
from opera_trainer.intervals import share
from opera_trainer.settings.synthesis import Criterion, FilterSettings
from opera_trainer.synthesis.filters import dropped, trace_of
from opera_trainer.synthesis.sampling import Sampled
from opera_trainer.synthesis.search import Found
from opera_trainer.tasks.checks import is_right
from opera_trainer.tasks.world import ends_right


class Statistics(Row):
    """Of one criterion. Shares have 95 % Wilson intervals; `right` is by the tasks' exact checks."""

    criterion: Criterion
    tasks: int
    failed: int
    """Tasks that the service refused, e.g. too long for its model."""
    finished: int
    kept: int
    dropped: dict[str, int]
    """First filter that failed → traces."""
    kept_share: Estimate | None
    right_before_filters: Estimate | None
    right: Estimate | None
    """Of the kept traces, those whose answer is right."""
    sound: Estimate | None
    """Of the kept traces, those whose answer is right and whose thought ends on the right number."""
    reflective: float
    """Share of kept traces with a reflection."""
    reflections: float
    """Mean a kept trace."""
    paragraphs: float
    gain: float
    """Mean nats a token that kept thoughts add to the reference."""
    ends: dict[str, int]
    """Why thoughts ended → finished traces."""
    unfit: dict[str, int]
    """Why candidates could not be chosen → candidates."""
    candidates: int
    sampled_tokens: int
    """Of all candidates, guiding words included."""


class PlainStatistics(Row):
    """Of responses the model wrote by itself."""

    tasks: int
    responses: int
    temperature: float
    right: Estimate | None


class Comparison(Row):
    """The criteria on the same tasks, through the same filters, beside the model alone."""

    tasks: int
    criteria: list[Statistics]
    plain: PlainStatistics | None


class Throughput(Row):
    """What the traces cost: seconds of all interrupted runs together, without the start of the service."""

    seconds: float
    traces: int
    """Finished ones, kept or not."""
    kept: int
    sampled_tokens: int
    traces_per_second: float
    kept_per_hour: float
    hours_for_20000: float
    """Kept traces, at this rate on this machine."""


def sift(
    tasks: Sequence[Task], results: Sequence[Found | ErrorDetail], filters: FilterSettings, by: Criterion
) -> tuple[list[Trace], Statistics]:
    """Return the traces that are kept, in the order of the tasks, and the statistics of all."""
    kept: list[Trace] = []
    thinking: list[Found] = []
    verdicts: list[bool | None] = []
    reasons: Counter[str] = Counter()
    finished = [(task, result) for task, result in zip(tasks, results, strict=True) if isinstance(result, Found)]
    sound = []
    for task, found in finished:
        trace = trace_of(task, found)
        verdicts.append(trace.right)
        reason = dropped(trace, found, filters)
        if reason is not None:
            reasons[reason] += 1
            continue
        kept.append(trace)
        thinking.append(found)
        ends = ends_right(task, trace.thought)
        if trace.right is not None and ends is not None:
            sound.append(trace.right and ends)
    steps = [step for _, found in finished for step in found.steps]
    candidates = [candidate for step in steps for candidate in step.candidates]
    statistics = Statistics(
        criterion=by,
        tasks=len(tasks),
        failed=len(tasks) - len(finished),
        finished=len(finished),
        kept=len(kept),
        dropped=dict(reasons),
        kept_share=share(len(kept), len(tasks)),
        right_before_filters=_share(verdicts),
        right=_share([trace.right for trace in kept]),
        sound=_share(sound),
        reflective=_mean([float(found.reflections > 0) for found in thinking]),
        reflections=_mean([float(found.reflections) for found in thinking]),
        paragraphs=_mean([float(len(found.paragraphs)) for found in thinking]),
        gain=_mean([trace.gain for trace in kept]),
        ends=dict(Counter(found.end for _, found in finished)),
        unfit=dict(Counter(one.unfit for one in candidates if one.unfit is not None)),
        candidates=len(candidates),
        sampled_tokens=sum(one.tokens for one in candidates),
    )
    return kept, statistics


def plain(tasks: Sequence[Task], results: Sequence[Sampled | ErrorDetail], temperature: float) -> PlainStatistics:
    """Return how often the model is right by itself."""
    responses = [
        (task, response)
        for task, result in zip(tasks, results, strict=True)
        if isinstance(result, Sampled)
        for response in result.responses
    ]
    return PlainStatistics(
        tasks=len(tasks),
        responses=len(responses),
        temperature=temperature,
        right=_share([is_right(task, response) for task, response in responses]),
    )


def _share(verdicts: Sequence[bool | None]) -> Estimate | None:
    known = [verdict for verdict in verdicts if verdict is not None]
    return share(sum(known), len(known))


def _mean(values: Sequence[float]) -> float:
    return round(fmean(values), 4) if values else 0.0
