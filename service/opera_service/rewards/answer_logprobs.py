"""The contexts that pay an answer, planned on the tree and read back. Says nothing about what they are worth.

The reference is priced after the member's own answer in a thought's place, and after its own thought; the answer
after an empty thought, after the reference in a thought's place, and without the prompt. Boundaries only when they
are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from opera_service.rewards.reference_logprobs import ContextQueries, Logprobs, read
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import ROOT, Ids, TreeBuilder
from opera_service.trajectories.encoded import EncodedGroup, EncodedTrajectory


@dataclass(frozen=True)
class Reads:
    """Which contexts a configuration reads."""

    answer: bool
    precision: bool
    relevance: bool
    thought: bool
    boundaries: bool
    """After every segment, and after the reflective ones without their markers."""


@dataclass(frozen=True)
class MemberQueries:
    """Queries of one member; None for what it does not have or nobody reads."""

    answer: int | None = None
    """The reference after the answer."""
    thought: int | None = None
    """The reference after the thought."""
    alone: int | None = None
    """The answer after an empty thought."""
    given: int | None = None
    """The answer after the reference."""
    unasked: int | None = None
    """The answer without the prompt."""
    boundaries: tuple[int, ...] = ()
    """The reference after 0 … S segments."""
    unmarked: tuple[int | None, ...] = ()
    """The reference after each reflective segment without its markers."""


@dataclass(frozen=True)
class GroupQueries:
    """Queries of one group."""

    empty: int
    """The reference after an empty thought."""
    members: tuple[MemberQueries, ...]


@dataclass(frozen=True)
class MemberLogprobs:
    """What was read of one member, per token; None as in `MemberQueries`."""

    answer: Logprobs | None
    thought: Logprobs | None
    alone: Logprobs | None
    given: Logprobs | None
    unasked: Logprobs | None
    boundaries: tuple[Logprobs, ...]
    unmarked: tuple[Logprobs | None, ...]


def plan_members(group: EncodedGroup, tree: TreeBuilder, reads: Reads, well_formed: list[bool]) -> GroupQueries:
    """Plan every member; malformed ones are priced only where boundaries are asked for."""
    planner = _Planner(group, tree, reads)
    members = tuple(
        planner.member(one, whole=valid) for one, valid in zip(group.trajectories, well_formed, strict=True)
    )
    return GroupQueries(planner.ask.after(group.initial), members)


def read_member(scores: TreeScores, queries: MemberQueries) -> MemberLogprobs:
    """Return one member's log-probs. Raises EngineFailed when they are not finite."""

    def maybe(query: int | None) -> Logprobs | None:
        return None if query is None else read(scores, query)

    return MemberLogprobs(
        answer=maybe(queries.answer),
        thought=maybe(queries.thought),
        alone=maybe(queries.alone),
        given=maybe(queries.given),
        unasked=maybe(queries.unasked),
        boundaries=tuple(read(scores, query) for query in queries.boundaries),
        unmarked=tuple(maybe(query) for query in queries.unmarked),
    )


class _Planner:
    def __init__(self, group: EncodedGroup, tree: TreeBuilder, reads: Reads) -> None:
        self.ask = ContextQueries(group, tree)
        self._tree, self._reads = tree, reads
        self._alone = np.concatenate([group.initial, group.close])
        self._given = np.concatenate([group.reference_thought, group.close])
        self._unasked = group.frame

    def member(self, member: EncodedTrajectory, *, whole: bool) -> MemberQueries:
        reads, answers = self._reads, len(member.plain_answer) > 0
        priced = whole and answers
        return MemberQueries(
            answer=self.ask.after(member.answer_thought) if priced and reads.answer else None,
            thought=self.ask.after(member.contexts[-1]) if whole and reads.thought and _thinks(member) else None,
            alone=self._answer(self._alone, member) if priced and (reads.precision or reads.relevance) else None,
            given=self._answer(self._given, member) if priced and reads.precision else None,
            unasked=self._answer(self._unasked, member) if priced and reads.relevance else None,
            boundaries=tuple(map(self.ask.after, member.contexts)) if reads.boundaries else (),
            unmarked=tuple(None if ids is None else self.ask.after(ids) for ids in member.unmarked)
            if reads.boundaries
            else (),
        )

    def _answer(self, context: Ids, member: EncodedTrajectory) -> int:
        return self._tree.score(self._tree.extend(ROOT, context), member.plain_answer, grows=True)


def _thinks(member: EncodedTrajectory) -> bool:
    return len(member.segments) > 0
