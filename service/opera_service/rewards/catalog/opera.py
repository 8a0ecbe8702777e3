"""OPERA: is the known good answer less surprising after this response?

`hardened` pays the answer, and lets its precision and the thought only confirm it. `paper` is the released code
number for number and `hardened-1` the first hardening of it; both live in `published_opera`.
docs/rewards/opera.md has the formulas, docs/validity.md what they were chosen on. Knows log-probs, no model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from opera_client.errors import OutcomeUnavailable
from opera_client.wire import Formula
from opera_service.rewards.answer_logprobs import GroupQueries, MemberLogprobs, Reads, plan_members, read_member
from opera_service.rewards.answer_value import (
    Values,
    bounded_rank,
    confirmed,
    gain,
    lift,
    reflected,
    relevance,
    shortfall,
    surprise,
)
from opera_service.rewards.base import GroupOutcome, Outcome, Reward, SegmentOutcome
from opera_service.rewards.config import RewardConfig
from opera_service.rewards.copying import CopyGuard
from opera_service.rewards.formulas import times_outcome, weighted_sum
from opera_service.rewards.gains import step_gains
from opera_service.rewards.guards import malformed
from opera_service.rewards.novelty import own_tokens
from opera_service.rewards.opera_config import OperaConfig
from opera_service.rewards.published_config import HARDENED_1, PAPER, PublishedConfig
from opera_service.rewards.published_opera import PublishedOpera
from opera_service.rewards.reference_logprobs import Logprobs, read
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import Ids, TreeBuilder
from opera_service.trajectories.encoded import EncodedGroup, EncodedTrajectory
from opera_service.trajectories.reference import says_something


@dataclass(frozen=True)
class _Member:
    """One response, measured."""

    trajectory: EncodedTrajectory
    logprobs: MemberLogprobs
    valid: bool
    copied: bool
    answer: float
    precision: float
    relevance: float
    thought: float


class Opera(Reward[OperaConfig, GroupQueries]):
    """OPERA as it is meant to be trained with."""

    name = "opera"
    summary = "How much an answer explains the reference, confirmed by its thought, against the group."
    source = (
        "OPERA, arXiv 2606.25757, and its released code; docs/validity.md says what `hardened` changes and why"
    )
    needs = ("reference", "group", "outcome")
    equation = "mean over the peers and an empty response of σ((value_i - value_k) / T)"
    turns = (
        "The answer is the last turn's, read behind the prompt alone, so that what the environment said pays "
        "nothing by itself; the thoughts of all turns are read where they stand. Rewards compare members: the "
        "last turn gets all of it, the others 0. `paper` reads one response only."
    )
    components = ("relative", "reflection", "answer", "precision", "relevance", "thought", "value")
    presets = {  # noqa: RUF012 (declared ClassVar by the base)
        "hardened": OperaConfig(),
        "hardened-1": HARDENED_1,
        "paper": PAPER,
    }

    @classmethod
    def bind(cls, config: RewardConfig) -> Reward[OperaConfig, GroupQueries] | PublishedOpera:
        """Return the reward that reads `config`."""
        if isinstance(config, PublishedConfig):
            return PublishedOpera(config)
        assert isinstance(config, OperaConfig)
        return cls(config)

    def formula(self, task: str) -> Formula:
        """Return what an open task pays, or the product of one with a right answer."""
        if self.config.judge_of(task) is not None:
            return times_outcome(self.config.math.intrinsic)
        weights = {
            "relative": self.config.total.relative,
            "reflection": 1.0 if self.config.total.reflection else 0.0,
        }
        return weighted_sum(weights, "0 for a broken format")

    def plan(self, group: EncodedGroup, tree: TreeBuilder) -> GroupQueries:
        """Price what the configuration reads, and boundaries where they are asked for."""
        value, total = self.config.value, self.config.total
        by_answer = value.priced == "answer"
        reads = Reads(
            answer=by_answer,
            precision=by_answer and value.precision_share > 0,
            relevance=value.reads_relevance,
            thought=not by_answer or value.thought_share > 0,
            boundaries=group.explained or total.reflection > 0,
        )
        return plan_members(group, tree, reads, [_well_formed(one) for one in group.trajectories])

    def read(self, group: EncodedGroup, plan: GroupQueries, scores: TreeScores) -> GroupOutcome:
        """Turn log-probs into outcomes. Raises OutcomeUnavailable for a math task that was not judged."""
        empty = read(scores, plan.empty)
        weights = surprise(empty, self.config.value.surprise_cap)
        guard = CopyGuard(group.reference, group.prompt, self.config.copying)
        members = [
            self._measured(one, read_member(scores, queries), empty, weights, guard, group.prompt_ids)
            for one, queries in zip(group.trajectories, plan.members, strict=True)
        ]
        values = self._values(members)
        relative, flags = self._compared(members, values, group.logprob_error)
        reflection = self._reflection(members, empty, weights)
        return GroupOutcome(
            trajectories=tuple(
                self._outcome(group, member, empty, flags, float(value), float(rank), earned)
                for member, value, rank, earned in zip(members, values, relative, reflection, strict=True)
            ),
            initial_logprobs=empty,
            diagnostics={
                "margin": self._margin(group.logprob_error),
                "spread": float(np.ptp(values[[one.valid for one in members]])) if any(_valid(members)) else 0.0,
                "informative": float(not flags),
                "copies": float(sum(one.copied for one in members)),
            },
        )

    def _measured(
        self,
        trajectory: EncodedTrajectory,
        logprobs: MemberLogprobs,
        empty: Logprobs,
        weights: Values,
        guard: CopyGuard,
        prompt: Ids,
    ) -> _Member:
        rules = self.config.value

        def explained(after: Logprobs | None) -> float:
            return 0.0 if after is None else gain(after, empty, weights, rules.clip, rules.losses)

        precision = relevant = 0.0
        if logprobs.given is not None and logprobs.alone is not None:
            precision = lift(logprobs.given, logprobs.alone, rules.clip, rules.precision_padding)
        if logprobs.unasked is not None and logprobs.alone is not None:
            own = own_tokens(trajectory.plain_answer, prompt)
            relevant = relevance(logprobs.alone, logprobs.unasked, own, rules.clip, rules.relevance_padding)
        shown = trajectory.outside if rules.priced == "answer" else trajectory.scored_text
        return _Member(
            trajectory=trajectory,
            logprobs=logprobs,
            valid=_well_formed(trajectory),
            copied=guard.copied(shown),
            answer=explained(logprobs.answer),
            precision=precision,
            relevance=relevant,
            thought=explained(logprobs.thought),
        )

    def _values(self, members: list[_Member]) -> Values:
        """Return what each member is worth; a copy at most what the best member that is none would be."""
        rules = self.config.value
        honest = [one for one in members if one.valid and not one.copied]
        best = {
            part: max([0.0, *(getattr(one, part) for one in honest)])
            for part in ("answer", "precision", "thought")
        }

        def part(member: _Member, name: str) -> float:
            own: float = getattr(member, name)
            return min(own, best[name]) if member.copied else own

        if rules.priced == "thought":
            return np.array([part(one, "thought") for one in members])
        found: list[float] = []
        for one in members:
            confirmations = [(part(one, "precision"), rules.precision_share)]
            if one.logprobs.thought is not None:
                confirmations.append((one.thought, rules.thought_share))
            answer = part(one, "answer")
            found.append(confirmed(answer, confirmations) - self._irrelevant(one, answer))
        return np.array(found)

    def _irrelevant(self, member: _Member, answer: float) -> float:
        rules = self.config.value
        if member.logprobs.unasked is None:
            return 0.0
        return rules.irrelevance_slope * shortfall(member.relevance, answer, rules.least_relevance)

    def _margin(self, error: float) -> float:
        return max(self.config.comparison.margin, 4 * error)

    def _compared(self, members: list[_Member], values: Values, error: float) -> tuple[Values, tuple[str, ...]]:
        """Return each member's place, and the group's flags: malformed members have none and are nobody's peer."""
        valid = np.array(_valid(members))
        relative = np.zeros(len(members))
        if not valid.any():
            return relative, ("uninformative",)
        ranks = bounded_rank(values[valid], self.config.comparison.temperature)
        silent = valid.sum() > 1 and float(np.ptp(values[valid])) < self._margin(error)
        relative[valid] = ranks.mean() if silent else ranks
        return relative, ("no_spread",) if silent else ()

    def _reflection(self, members: list[_Member], empty: Logprobs, weights: Values) -> list[Values]:
        """Return what each segment of each member earned by reflecting; empty where boundaries were not priced."""
        rules = self.config.value

        def level(after: Logprobs | None) -> float:
            return -np.inf if after is None else gain(after, empty, weights, rules.clip, rules.losses)

        plain = [
            one.thought for one in members if one.valid and not any(s.reflective for s in one.trajectory.segments)
        ]
        rival = max(plain, default=-np.inf)
        return [
            reflected(
                np.array([level(after) for after in one.logprobs.boundaries]),
                np.array([level(after) for after in one.logprobs.unmarked]),
                np.array([segment.reflective for segment in one.trajectory.segments], dtype=np.bool_),
                rival,
            )
            if one.logprobs.boundaries
            else np.zeros(0)
            for one in members
        ]

    def _outcome(
        self,
        group: EncodedGroup,
        member: _Member,
        empty: Logprobs,
        flags: tuple[str, ...],
        value: float,
        relative: float,
        earned: Values,
    ) -> Outcome:
        config, weight = self.config, self.config.total.reflection
        bonus = weight * float(np.tanh(earned.sum() / (2 * config.comparison.temperature))) if weight else 0.0
        reward = config.total.relative * relative + bonus
        own = [*member.trajectory.flags, *flags]
        if config.judge_of(group.task) is not None:
            if member.trajectory.outcome is None:
                raise OutcomeUnavailable("a math task needs to be judged before its reward can be read")
            share = config.math.intrinsic
            reward = float(member.trajectory.outcome) * ((1 - share) + share * relative)
            own.append("outcome_correct" if member.trajectory.outcome else "outcome_wrong")
        if member.copied:
            own.append("reference_copy")
        if not member.valid:
            reward = bonus = 0.0
            own.append("format_gate")
        priced = member.logprobs.answer if config.value.priced == "answer" else member.logprobs.thought
        return Outcome(
            reward=reward,
            components={
                "relative": relative,
                "reflection": bonus,
                "answer": member.answer,
                "precision": member.precision,
                "relevance": member.relevance,
                "thought": member.thought,
                "value": value,
            },
            token_logprobs=empty if priced is None else priced,
            segments=_segments(member, earned if weight and member.valid else np.zeros_like(earned)),
            flags=tuple(own),
        )


def _valid(members: list[_Member]) -> list[bool]:
    return [one.valid for one in members]


def _well_formed(trajectory: EncodedTrajectory) -> bool:
    return not malformed(trajectory) and says_something(trajectory.answer)


def _segments(member: _Member, earned: Values) -> tuple[SegmentOutcome, ...]:
    after = member.logprobs.boundaries
    if not after:
        return ()
    means = np.array([one.mean() for one in after])
    gains = step_gains(means)
    return tuple(
        SegmentOutcome(float(means[at + 1]), float(gains[at]), bool(earned[at] > 0), after[at + 1])
        for at in range(len(gains))
    )
