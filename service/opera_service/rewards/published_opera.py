"""OPERA as released, and the first hardening of it, for comparison: presets `paper` and `hardened-1`.

`paper` is the released code number for number; `hardened-1` closes the holes found before real language was
measured (docs/validity.md says what that showed); docs/rewards/opera.md has the formulas.
Knows log-probs and words, no model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from opera_client.errors import OutcomeUnavailable
from opera_client.wire import Formula
from opera_service.rewards.base import GroupOutcome, Outcome, Reward, SegmentOutcome
from opera_service.rewards.formulas import times_outcome, weighted_sum
from opera_service.rewards.gains import (
    calibrated_margin,
    potential_gain,
    running_maximum_gains,
    squashed_count,
    step_gains,
)
from opera_service.rewards.guards import malformed, repeats
from opera_service.rewards.published_config import HARDENED_1, PAPER, PublishedConfig
from opera_service.rewards.ranks import (
    auto_temperature,
    best_peer,
    hard_rank,
    relative_likelihood,
    soft_rank,
    spread_is_noise,
)
from opera_service.rewards.reference_logprobs import Logprobs, ReferencePlan, plan_reference, read, sums
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import ROOT, TreeBuilder
from opera_service.trajectories.encoded import EncodedGroup, EncodedTrajectory


@dataclass(frozen=True)
class OperaPlan:
    """Queries of one group."""

    prices: ReferencePlan
    answers: tuple[int | None, ...]
    """Own answer after own thought; None without answer, empty when consistency is off."""
    controls: tuple[int, ...]


class PublishedOpera(Reward[PublishedConfig, OperaPlan]):
    """OPERA, as released or hardened."""

    name = "opera"
    summary = "Perplexity of the reference after the thought, against the group, plus productive reflection."
    source = "OPERA, arXiv 2606.25757, and its released code; docs/rewards/opera.md says what `hardened-1` changes"
    needs = ("reference", "group", "outcome")
    presets = {"hardened": HARDENED_1, "paper": PAPER}  # noqa: RUF012 (declared ClassVar by the base)

    def formula(self, task: str) -> Formula:
        """Return the weighted sum of an open task, or the product of one with a right answer."""
        if self.config.judge_of(task) is not None:
            return times_outcome(self.config.math.intrinsic)
        gate = "0 for a broken format" if self.config.guards.format_gate else ""
        return weighted_sum(self.config.total.model_dump(), gate)

    @property
    def components(self) -> tuple[str, ...]:
        """`relative` and `reflection` always, the others unless their weight is null."""
        return tuple(key for key, weight in self.config.total.model_dump().items() if weight is not None)

    def plan(self, group: EncodedGroup, tree: TreeBuilder) -> OperaPlan:
        """Price every boundary and the end of every trajectory, own answers and controls."""
        config = self.config
        prices = plan_reference(group, tree, config.guards, steps=True, final=config.final)
        answers: tuple[int | None, ...] = ()
        if config.total.consistency is not None:
            answers = tuple(
                tree.score(tree.extend(ROOT, one.answer_context), one.answer_ids, grows=True)
                if len(one.answer_ids)
                else None
                for one in group.trajectories
            )
        controls: tuple[int, ...] = ()
        if config.reflection.margin == "calibrated":
            start = tree.extend(ROOT, group.initial)
            ends = [tree.extend(tree.extend(start, control), group.bridge) for control in group.controls]
            controls = tuple(tree.score(end, group.reference_ids) for end in ends)
        return OperaPlan(prices, answers, controls)

    def read(self, group: EncodedGroup, plan: OperaPlan, scores: TreeScores) -> GroupOutcome:
        """Turn prices into outcomes. Raises OutcomeUnavailable for a math task that was not judged."""
        tokens = len(group.reference_ids)
        finals = sums(scores, plan.prices.finals)
        initial = read(scores, plan.prices.initial)
        margin = self._margin(plan, scores, float(initial.mean()))
        temperature = self._temperature(tokens)
        relative = self._relative(finals, tokens)
        ceilings = best_peer(finals)
        outcomes: list[Outcome] = []
        for index, trajectory in enumerate(group.trajectories):
            steps = [read(scores, query) for query in plan.prices.steps[index]]
            stop = plan.prices.stops[index]
            means = np.array([step.mean() for step in steps])
            credited = self._credited(trajectory, means, stop, margin)
            final = read(scores, plan.prices.finals[index])
            if self.config.reflection.pay == "count":
                reflection = squashed_count(credited, self.config.reflection.scale)
            else:
                boundary_logprobs = means[: stop + 1] * tokens
                reflection = potential_gain(
                    boundary_logprobs, credited[:stop], float(ceilings[index]), temperature
                )
            components = {"relative": float(relative[index]), "reflection": reflection}
            components |= self._optional(plan, scores, index, final, float(means[0]))
            flags = trajectory.flags + (("reference_copy",) if stop < len(trajectory.segments) else ())
            outcome = Outcome(
                reward=self._open_total(components),
                components=components,
                token_logprobs=final,
                segments=_segments(steps, means, credited),
                flags=flags,
            )
            outcomes.append(self._settled(group, trajectory, outcome))
        return GroupOutcome(
            trajectories=tuple(outcomes),
            initial_logprobs=initial,
            diagnostics={
                "margin": margin,
                "controls": float(len(plan.controls)),
                "temperature": temperature,
                "spread": float(np.ptp(finals)),
                "informative": float(not self._uninformative(finals, tokens)),
            },
        )

    def _margin(self, plan: OperaPlan, scores: TreeScores, initial: float) -> float:
        rules = self.config.reflection
        if rules.margin != "calibrated":
            return rules.margin
        gains = [float(read(scores, query).mean()) - initial for query in plan.controls]
        return calibrated_margin(gains, floor=rules.margin_floor, fallback=rules.margin_fallback)

    def _temperature(self, tokens: int) -> float:
        chosen = self.config.relative.temperature
        return auto_temperature(tokens) if chosen == "auto" else chosen

    def _uninformative(self, finals: Logprobs, tokens: int) -> bool:
        return spread_is_noise(finals, self.config.relative.margin, tokens)

    def _relative(self, finals: Logprobs, tokens: int) -> Logprobs:
        rules = self.config.relative
        if self._uninformative(finals, tokens):
            return np.full(len(finals), rules.neutral)
        if rules.mode == "rank":
            return hard_rank(finals, rules.ties)
        shape = soft_rank if rules.mode == "soft_rank" else relative_likelihood
        return shape(finals, self._temperature(tokens))

    def _credited(
        self, trajectory: EncodedTrajectory, means: Logprobs, stop: int, margin: float
    ) -> NDArray[np.bool_]:
        """Return which segments count: reflective, before any copy, long enough, new, and gaining enough."""
        rules = self.config.reflection
        gains = running_maximum_gains(means) if rules.credit == "record" else step_gains(means)
        credited = np.zeros(len(gains), dtype=np.bool_)
        for index, segment in enumerate(trajectory.segments[:stop]):
            credited[index] = (
                segment.reflective
                and bool(gains[index] > margin)
                and segment.end - segment.start >= rules.min_tokens
                and not self._repeated(trajectory, index)
            )
        return credited

    def _repeated(self, trajectory: EncodedTrajectory, index: int) -> bool:
        threshold = self.config.reflection.duplicate
        earlier = (trajectory.before, *(segment.text for segment in trajectory.segments[:index]))
        return threshold is not None and repeats(trajectory.segments[index].text, earlier, threshold)

    def _optional(
        self, plan: OperaPlan, scores: TreeScores, index: int, final: Logprobs, initial: float
    ) -> dict[str, float]:
        total = self.config.total
        found: dict[str, float] = {}
        if total.consistency is not None:
            query = plan.answers[index]
            found["consistency"] = 0.0 if query is None else float(np.exp(read(scores, query).mean()))
        if total.level is not None:
            found["level"] = float(np.exp(final.mean()))
        if total.improvement is not None:
            mix = self.config.ema.mix if self.config.ema else 0.0
            gain = (1 - mix) * (float(final.mean()) - initial)
            found["improvement"] = float(0.5 * (1 + np.tanh(gain / 2)))
        return found

    def _open_total(self, components: dict[str, float]) -> float:
        weights = self.config.total.model_dump()
        return float(sum(weights[key] * value for key, value in components.items()))

    def _settled(self, group: EncodedGroup, trajectory: EncodedTrajectory, outcome: Outcome) -> Outcome:
        """Apply the format gate, and the outcome of tasks that have one."""
        gated = self.config.guards.format_gate and malformed(trajectory)
        reward, components, flags = outcome.reward, outcome.components, outcome.flags
        if self.config.judge_of(group.task) is not None:
            if trajectory.outcome is None:
                raise OutcomeUnavailable("a math task needs to be judged before its reward can be read")
            share = self.config.math.intrinsic
            reward = float(trajectory.outcome) * ((1 - share) + share * components["relative"])
            if not trajectory.outcome and self.config.math.zero_wrong:
                components = dict.fromkeys(components, 0.0)
            flags += ("outcome_correct" if trajectory.outcome else "outcome_wrong",)
        if gated:
            reward, flags = 0.0, (*flags, "format_gate")
        return replace(outcome, reward=reward, components=components, flags=flags)


def _segments(steps: list[Logprobs], means: Logprobs, credited: NDArray[np.bool_]) -> tuple[SegmentOutcome, ...]:
    gains = step_gains(means)
    return tuple(
        SegmentOutcome(float(means[at + 1]), float(gains[at]), bool(credited[at]), steps[at + 1])
        for at in range(len(gains))
    )
