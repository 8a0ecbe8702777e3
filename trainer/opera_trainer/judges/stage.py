"""The stage `judge`: every measured model's answers before judges that no reward sees, and the verdict of the run.

Answers are what follows the think block. They are compared with the *second* references, which neither the reward
nor any training has seen. Nothing here is fed back into training.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from opera_client import AsyncRewardClient
from opera_client.errors import BadInput
from opera_client.wire import Group, Trajectory
from opera_trainer.artefacts import Estimate, Rollout, Task, read_rows, write_json, write_rows
from opera_trainer.config import RunConfig, trained
from opera_trainer.judges import blind, embedding, llm, overlap
from opera_trainer.judges.changes import Answers, Scored, change, change_at_equal_length
from opera_trainer.judges.findings import Change, Judged, Judgement, Preference
from opera_trainer.judges.verdict import WORDS, Verdict, verdict
from opera_trainer.service import serving
from opera_trainer.settings.judging import JudgingSettings
from opera_trainer.stage import Stage, Work, shape_of
from opera_trainer.tasks.checks import answer_of

VALUED = ("value", "level")
"""Components that say what a response is worth by itself; a reward among peers hardly moves."""


def stage(config: RunConfig) -> Stage:
    """Return the stage; it is made anew each time, since people's votes may have come in."""
    measured = [f"evaluate-{name}" for name in ("base", *trained(config))]
    return Stage("judge", ("tasks", *measured), shape_of(judging=config.judging), _run, fresh=True)


def _run(work: Work) -> None:
    settings = work.config.judging or JudgingSettings()
    stages = [name.removeprefix("evaluate-") for name in work.inputs if name.startswith("evaluate-")]
    rollouts = {
        name: list(read_rows(work.inputs[f"evaluate-{name}"] / "rollouts.jsonl", Rollout)) for name in stages
    }
    seconds = second_references(work.inputs["tasks"])
    notes: list[str] = []
    judged = [
        Judgement(
            stage=name, task_id=one.task_id, mode=one.mode, sample=one.sample, tokens=one.tokens,
            rewarded=_rewarded(one),
            metrics={},
        )
        for name, some in rollouts.items() for one in some
    ]  # fmt: skip
    answers = [(one, seconds.get(one.task_id)) for some in rollouts.values() for one in some]
    metrics = _metrics(work, settings, answers, notes)
    judged = [
        one.model_copy(update={"metrics": {name: found[at] for name, found in metrics.items() if at in found}})
        for at, one in enumerate(judged)
    ]
    write_rows(work.folder / "judgements.jsonl", judged)
    start, end = _compared(stages)
    changes = list(_changes(judged, stages, settings.resamples))
    preferences = _preferences(work, settings, rollouts, start, end)
    if settings.people:
        blind.write(work.folder / "blind.html", _pairs(rollouts, start, end, settings.people), work.config.seed)
    found = _verdict(changes, preferences, start, end)
    write_json(
        work.folder / "judged.json",
        Judged(
            verdict=found, words=WORDS[found], start=start, end=end, changes=changes, preferences=preferences,
            tasks=len(seconds), notes=notes,
        ),
    )  # fmt: skip
    work.say(f"  {WORDS[found]}")


def second_references(tasks: Path) -> dict[str, str]:
    """Return the second references of held-out tasks by task."""
    found = {}
    for name in ("test", "harder"):
        path = tasks / f"{name}.jsonl"
        for task in read_rows(path, Task) if path.exists() else ():
            if task.second_reference is not None:
                found[task.id] = task.second_reference
    return found


def _rewarded(rollout: Rollout) -> float | None:
    for name in VALUED:
        if rollout.components and name in rollout.components:
            return rollout.components[name]
    return rollout.reward


def _metrics(
    work: Work, settings: JudgingSettings, answers: Sequence[tuple[Rollout, str | None]], notes: list[str]
) -> dict[str, dict[int, float]]:
    """Return judge → position of the answer → value."""
    known = [(at, answer_of(one.response), second) for at, (one, second) in enumerate(answers) if second]
    if not known:
        notes.append("No held-out task has a second reference: nothing is compared with one.")
        return {}
    found: dict[str, dict[int, float]] = {}
    if settings.overlap:
        for name, measure in (("chrf", overlap.chrf), ("rouge_l", overlap.rouge_l)):
            try:
                found[name] = {at: measure(answer, second) for at, answer, second in known}
            except ModuleNotFoundError as error:
                notes.append(f"{name}: needs {error.name}: pip install 'opera-reward[judges]'")
    if settings.embedding is not None:
        try:
            encoder = embedding.Encoder(settings.embedding)
        except BadInput as error:
            notes.append(error.message)
        else:
            cosines = encoder.similarities([(answer, second) for _, answer, second in known])
            found["similarity"] = {
                at: cosine for (at, _, _), cosine in zip(known, cosines, strict=True) if cosine is not None
            }
    if settings.scorer is not None:
        rows = [(at, answers[at][0], answer, second) for at, answer, second in known if answer.strip()]
        with serving(work.config, settings.scorer, own=True) as url:
            found["other_scorer"] = asyncio.run(_explained(work, rows, url))
    for line in notes:
        work.say(f"  {line}")
    return found


async def _explained(work: Work, rows: Iterable[tuple[int, Rollout, str, str]], url: str) -> dict[int, float]:
    """Return how likely the second reference is to another model after each answer, nats a token."""
    rows = list(rows)
    groups = [
        Group(
            group_id=str(at), prompt=one.prompt, reference=second,
            trajectories=[Trajectory(id="0", response=answer)],
        )
        for at, one, answer, second in rows
    ]  # fmt: skip
    async with AsyncRewardClient(url, timeout=work.config.service.timeout_s) as client:
        result = await client.reward(
            groups, reward="logprob", preset="hardened", config={"think": {"mode": "none"}}
        )
    found = {}
    for (at, *_), group in zip(rows, result.groups, strict=True):
        (only,) = group.trajectories
        if only.status == "ok" and only.mean_logprob is not None:
            found[at] = only.mean_logprob
    return found


def _compared(stages: Sequence[str]) -> tuple[str, str]:
    """Return what GRPO, or its control, started from and what it made; without either, the first and the last."""
    return (stages[0] if stages[-1] == "sft" else stages[max(len(stages) - 2, 0)]), stages[-1]


def _changes(judged: Sequence[Judgement], stages: Sequence[str], resamples: int) -> Iterable[Change]:
    names = list(dict.fromkeys(name for one in judged for name in one.metrics))
    values: dict[str, Callable[[Judgement], float | None]] = {"rewarded": lambda one: one.rewarded}
    for name in names:
        values[name] = lambda one, name=name: one.metrics.get(name)  # type: ignore[misc]
    pairs = list(pairwise(stages))
    if len(stages) > 2:
        pairs.append((stages[0], stages[-1]))
    for start, end in pairs:
        for name, value in values.items():
            before, after = (_answers(judged, stage, value) for stage in (start, end))
            plain = change(before, after, resamples)
            if plain is not None:
                equal = change_at_equal_length(before, after, resamples)
                yield Change(start=start, end=end, metric=name, plain=plain, equal_length=equal)


def _answers(judged: Iterable[Judgement], stage: str, value: Callable[[Judgement], float | None]) -> Answers:
    found: dict[str, list[Scored]] = {}
    for one in judged:
        known = value(one)
        if one.stage == stage and one.mode == "sampled" and known is not None:
            found.setdefault(one.task_id, []).append(Scored(known, one.tokens))
    return found


def _pairs(rollouts: Mapping[str, Sequence[Rollout]], start: str, end: str, limit: int) -> list[llm.Pair]:
    """Return the first sampled answers of two models to the first tasks, those that are not the same."""
    after = {one.task_id: one for one in rollouts[end] if one.mode == "sampled" and one.sample == 0}
    found = []
    for one in rollouts[start]:
        other = after.get(one.task_id)
        if one.mode != "sampled" or one.sample or other is None or start == end:
            continue
        texts = answer_of(one.response), answer_of(other.response)
        if texts[0] != texts[1]:
            prompt = "\n\n".join(message.content for message in one.prompt)
            found.append(llm.Pair(one.task_id, prompt, *texts))
    return found[:limit]


def _preferences(
    work: Work, settings: JudgingSettings, rollouts: Mapping[str, Sequence[Rollout]], start: str, end: str
) -> list[Preference]:
    found = []
    if settings.llm is not None and start != end:
        pairs = _pairs(rollouts, start, end, settings.llm.tasks)
        said = asyncio.run(llm.opinions(settings.llm, pairs))
        share = blind.share_of([one.preference for one in said], settings.resamples)
        if share is not None:
            consistent = sum(one.consistent for one in said) / len(said)
            found.append(
                Preference(judge=settings.llm.model, start=start, end=end, share=share, consistent=consistent)
            )
    votes = blind.votes(work.folder.parent / blind.VOTES)
    share = blind.share_of(blind.means(votes), settings.resamples)
    if share is not None:
        found.append(
            Preference(judge="people", start=start, end=end, share=share, consistent=blind.agreement(votes))
        )
    return found


def _verdict(changes: Iterable[Change], preferences: Iterable[Preference], start: str, end: str) -> Verdict:
    reward: Estimate | None = None
    judges: dict[str, Estimate | None] = {}
    for one in changes:
        if (one.start, one.end) != (start, end):
            continue
        if one.metric == "rewarded":
            reward = one.plain
        else:
            judges[one.metric] = one.equal_length or one.plain
    for other in preferences:
        moved = {name: getattr(other.share, name) - 0.5 for name in ("value", "low", "high")}
        judges[other.judge] = other.share.model_copy(update=moved)
    return verdict(reward, judges)
