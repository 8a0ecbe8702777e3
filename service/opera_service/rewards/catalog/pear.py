"""PEAR: think with certainty, and do not mistake a short thought for one."""

from __future__ import annotations

from pydantic import Field

from opera_client.errors import OutcomeUnavailable
from opera_service.rewards.base import GroupOutcome, Outcome
from opera_service.rewards.config import Judge
from opera_service.rewards.policy_tokens import (
    NO_GUARDS,
    Member,
    PolicyConfig,
    PolicyReward,
    mean_over,
    outcome_of,
    outcomes_of,
)
from opera_service.trajectories.encoded import EncodedGroup


class PearConfig(PolicyConfig):
    """Choices of `pear`."""

    alpha: float = Field(1.0, ge=0, description="How much of the answer's entropy the thought may have for free.")
    base: float = Field(1.0, gt=0, le=1, description="Reward of a right answer before the penalty.")
    wrong: float = Field(0.0, description="Reward of a wrong answer, and of what the guards do not pay.")

    def judge_of(self, task: str) -> Judge | None:
        """Return the judge of `math` tasks; an open task has no right or wrong, and pays the penalty alone."""
        return "math_verify" if task == "math" else None


class Pear(PolicyReward[PearConfig]):
    """Right answers, less what the thought is less certain than the answer."""

    name = "pear"
    summary = "Right answers, less the entropy of the thought beyond that of the answer: shorter thoughts."
    source = "PEAR, arXiv 2510.08026 (formula from secondary notes that agree)"
    needs = ("entropy", "outcome")
    equation = "min(1, s - max(0, mean H of the thought - α · mean H of the answer)) if right, else the format's"
    unsettled = (
        "s and the reward of a wrong answer are free in the formula; 1 and 0 are assumed.",
        "The paper is about tasks with right answers. For open tasks the reward here is min(1, s - penalty).",
    )
    components = ("penalty", "thought_entropy", "answer_entropy")
    presets = {  # noqa: RUF012 (declared ClassVar by the base)
        "hardened": PearConfig(),
        "paper": PearConfig(guards=NO_GUARDS),
    }

    def rewarded(self, group: EncodedGroup, members: list[Member]) -> GroupOutcome:
        """Price every member for itself."""
        judged = self.config.judge_of(group.task) is not None
        return outcomes_of([self._outcome(one, judged=judged) for one in members])

    def _outcome(self, member: Member, *, judged: bool) -> Outcome:
        config, numbers = self.config, member.numbers
        closed = not {"think_missing", "think_unclosed"}.intersection(member.trajectory.flags)
        # Without a closing tag all of the response is thought, and the answer has no entropy.
        thought = numbers.inside(numbers.tokens.thoughts) if closed else numbers.written
        answer = numbers.inside(numbers.tokens.answers) & ~thought
        thinking = mean_over(numbers.entropies, thought)
        answering = mean_over(numbers.entropies, answer) if closed else 0.0
        penalty = max(0.0, thinking - config.alpha * answering)
        if judged and member.trajectory.outcome is None:
            raise OutcomeUnavailable("a math task needs to be judged before its reward can be read")
        paid = member.valid and (member.trajectory.outcome or not judged)
        return outcome_of(
            member,
            min(1.0, config.base - penalty) if paid else config.wrong,
            {"penalty": penalty, "thought_entropy": thinking, "answer_entropy": answering},
        )
