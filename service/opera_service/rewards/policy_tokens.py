"""The second primitive: log-probs and entropies of the policy's own tokens, planned and read.

A response is one stretch of the token tree, so every one of its tokens is fed once, whatever else is priced on it.
Vocabulary logits exist for a chunk of rows at a time: memory grows with the tokens, not with tokens x vocabulary.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from opera_client.errors import NotSupported
from opera_service.rewards.base import GroupOutcome, Outcome, Reward
from opera_service.rewards.config import RewardConfig
from opera_service.rewards.guards import malformed
from opera_service.rewards.repetition import LOOP, repetition
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import ROOT, Ids, TreeBuilder
from opera_service.trajectories.encoded import EncodedGroup, EncodedTrajectory, PolicyTokens, Span
from opera_service.trajectories.encoding_config import ConfigModel, ContextConfig

Values = NDArray[np.float64]
NO_REFERENCE: Values = np.zeros(0)
"""Token log-probs of a reward that prices no reference."""


class PolicyGuards(ConfigModel):
    """Checks on the text of rewards that read the policy's own tokens."""

    format_gate: bool = Field(
        True, description="A response without a closed think block and an answer is not paid (D19)."
    )
    loops: bool = Field(
        True, description="Nor is one that writes the same again and again: nothing is as certain as a repetition."
    )


NO_GUARDS = PolicyGuards(format_gate=False, loops=False)


class PolicyConfig(RewardConfig):
    """What rewards on the policy's own tokens share."""

    context: ContextConfig = ContextConfig(controls=False)
    guards: PolicyGuards = PolicyGuards()

    @model_validator(mode="after")
    def _as_sampled(self) -> PolicyConfig:
        if self.context.mode != "ids":
            raise ValueError("context.mode must be `ids`: a text that is tokenised again is not what was sampled")
        return self


Config = TypeVar("Config", bound=PolicyConfig)


@dataclass(frozen=True)
class PolicyNumbers:
    """What was read of one response; arrays have one entry a token of the whole response."""

    tokens: PolicyTokens
    logprobs: Values
    """NaN where the policy wrote nothing (an environment's tokens, padding)."""
    entropies: Values
    """Nats, of the distribution that the token was drawn from; NaN alike, and everywhere when not asked for."""

    @property
    def written(self) -> NDArray[np.bool_]:
        """Which tokens the policy wrote."""
        return ~np.isnan(self.logprobs)

    def inside(self, spans: Sequence[Span]) -> NDArray[np.bool_]:
        """Return which tokens of `spans` the policy wrote."""
        found = np.zeros(len(self.logprobs), dtype=np.bool_)
        for start, end in spans:
            found[start:end] = True
        return found & self.written


Queries = tuple[tuple[int, ...], ...]
"""A trajectory: one query a span that the policy wrote."""


def plan_policy(group: EncodedGroup, tree: TreeBuilder, *, entropy: bool) -> Queries:
    """Ask for the log-probs of all that the policy wrote, with `entropy` for the entropies, too."""
    own = map(policy_of, group.trajectories)
    return tuple(plan_behind(tokens, tokens.context, tree, entropy=entropy) for tokens in own)


def plan_behind(
    tokens: PolicyTokens, context: Ids, tree: TreeBuilder, *, entropy: bool = False
) -> tuple[int, ...]:
    """Ask for what the policy wrote in one response, behind any context; `read_policy` reads it."""
    path = np.concatenate([context, tokens.ids])
    before = len(context)
    return tuple(
        tree.score(tree.extend(ROOT, path[: before + start]), tokens.ids[start:end], grows=True, entropy=entropy)
        for start, end in tokens.written
        if start < end
    )


def policy_of(trajectory: EncodedTrajectory) -> PolicyTokens:
    """Return the tokens as sampled. Raises NotSupported where they are not known."""
    if trajectory.policy is None:
        raise NotSupported("this reward reads the sampled tokens, which mode `text` does not keep")
    return trajectory.policy


def read_policy(
    trajectory: EncodedTrajectory, queries: tuple[int, ...], scores: TreeScores, *, entropy: bool
) -> PolicyNumbers:
    """Return the numbers of one response. Raises EngineFailed when one is not finite."""
    tokens = policy_of(trajectory)
    logprobs, entropies = np.full(len(tokens.ids), np.nan), np.full(len(tokens.ids), np.nan)
    spans = [span for span in tokens.written if span[0] < span[1]]
    for (start, end), query in zip(spans, queries, strict=True):
        logprobs[start:end] = scores.of(query)
        if entropy:
            entropies[start:end] = scores.entropies_of(query)
    return PolicyNumbers(tokens, logprobs, entropies)


@dataclass(frozen=True)
class Member:
    """One trajectory with its numbers, and whether it may be paid."""

    trajectory: EncodedTrajectory
    numbers: PolicyNumbers
    valid: bool
    flags: tuple[str, ...]
    """Those of the encoding, then why it is not valid."""


def member_of(guards: PolicyGuards, trajectory: EncodedTrajectory, numbers: PolicyNumbers) -> Member:
    """Return a trajectory with its numbers and what the guards say of it."""
    reasons = {
        "format_gate": guards.format_gate and malformed(trajectory),
        "loop": guards.loops and repetition(trajectory.scored_text) > LOOP,
    }
    flags = tuple(name for name, is_so in reasons.items() if is_so)
    return Member(trajectory, numbers, not flags, trajectory.flags + flags)


class PolicyReward(Reward[Config, Queries]):
    """Base of rewards that read the policy's own tokens and no reference."""

    def plan(self, group: EncodedGroup, tree: TreeBuilder) -> Queries:
        """Ask for what `needs` names."""
        return plan_policy(group, tree, entropy="entropy" in self.needs)

    def read(self, group: EncodedGroup, plan: Queries, scores: TreeScores) -> GroupOutcome:
        """Turn the numbers into outcomes."""
        members = [
            member_of(self.config.guards, one, read_policy(one, queries, scores, entropy="entropy" in self.needs))
            for one, queries in zip(group.trajectories, plan, strict=True)
        ]
        return self.rewarded(group, members)

    @abstractmethod
    def rewarded(self, group: EncodedGroup, members: list[Member]) -> GroupOutcome:
        """Return what the members are worth, in order."""


def outcome_of(member: Member, reward: float, components: dict[str, float], **more: Any) -> Outcome:
    """Return the outcome of a member that no reference was priced for."""
    return Outcome(reward=reward, components=components, token_logprobs=NO_REFERENCE, flags=member.flags, **more)


def outcomes_of(outcomes: Sequence[Outcome], **diagnostics: float) -> GroupOutcome:
    """Return the outcome of a group that no reference was priced for."""
    return GroupOutcome(tuple(outcomes), NO_REFERENCE, diagnostics)


def mean_over(values: Values, where: NDArray[np.bool_]) -> float:
    """Return the mean of the values that are asked for; 0 of none."""
    return float(values[where].mean()) if where.any() else 0.0
