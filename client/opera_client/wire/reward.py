"""POST /reward: whole groups in, rewards and everything they were computed from out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from opera_client.wire._base import (
    Answer,
    Detail,
    FirstError,
    Id,
    Prompt,
    Request,
    Status,
    Step,
    Text,
    TokenIds,
    needs_one,
)
from opera_client.wire.common import ErrorDetail, ModelInfo, Timing, Usage
from opera_client.wire.reference import AnyReference, must_be_one_reference
from opera_client.wire.turns import StepResult, TokenMask, Turns


class Trajectory(Request):
    """A response to the group's prompt: its text, its token ids, or both (then ids are scored, text is shown).

    A trajectory of several turns comes as `turns`, or as `response_token_ids` with a `response_mask`.
    """

    id: Id | None = Field(None, description="Unique in its group; the position by default.")
    response: Text | None = None
    response_token_ids: TokenIds | None = None
    response_mask: TokenMask | None = Field(
        None, description="One number a token of `response_token_ids`: 1 the policy wrote, 0 its environment did."
    )
    turns: Turns | None = Field(
        None, description="Messages in place of a response; the first one is the assistant's."
    )

    @model_validator(mode="after")
    def _some_response(self) -> Trajectory:
        if self.turns is None:
            needs_one(self.response, self.response_token_ids, "response", or_else=("turns",))
        elif (self.response, self.response_token_ids, self.response_mask) != (None, None, None):
            raise ValueError("give `turns`, or a response with its ids and mask, not both")
        if self.response_mask is not None and self.response_token_ids is None:
            raise ValueError("`response_mask` says whose the `response_token_ids` are; give them, too")
        return self

    @property
    def has_turns(self) -> bool:
        """Whether it says which tokens are the policy's and which its environment's."""
        return self.turns is not None or self.response_mask is not None


class Group(Request):
    """All trajectories of one prompt in one rollout step, with the known good answer if the reward needs one."""

    group_id: Id | None = Field(None, description="The position in the request by default.")
    task: Literal["open", "math"] = "open"
    prompt: Prompt | None = None
    prompt_token_ids: TokenIds | None = None
    reference: AnyReference = Field(None, description="Text, or a list of up to 8 alternative texts.")
    reference_token_ids: TokenIds | None = None
    trajectories: list[Trajectory] = Field(min_length=1)

    @model_validator(mode="after")
    def _complete(self) -> Group:
        needs_one(self.prompt, self.prompt_token_ids, "prompt")
        must_be_one_reference(self.reference, self.reference_token_ids)
        seen: set[str] = set()
        for position, trajectory in enumerate(self.trajectories):
            name = str(position) if trajectory.id is None else trajectory.id
            if name in seen:
                raise ValueError(
                    f"trajectory id {name!r} appears twice in the group (without an id it is the position); "
                    "make ids unique or omit them all"
                )
            seen.add(name)
        return self


class WeightedReward(Request):
    """One term of a weighted sum of rewards."""

    name: str
    weight: float = 1.0
    preset: str | None = Field(None, description="The request's by default.")
    config: dict[str, Any] = Field(default_factory=dict, description="Overrides single fields of the preset.")


Rewards = Annotated[list[WeightedReward], FirstError(), Field(min_length=1, max_length=16)]
SUM = "sum"
"""The reward that a list of weighted ones is; its config is `{"rewards": the list}`."""


def summed(given: object) -> object:
    """Return a request with `rewards` as one for the reward `sum`, and any other as it is.

    Raises ValueError where `rewards` and `reward` or `config` say two things.
    """
    if not isinstance(given, Mapping) or given.get("rewards") is None:
        return given
    if given.get("reward", SUM) != SUM:
        raise ValueError("give `reward` or `rewards`, not both")
    listed = given["rewards"]
    if not isinstance(listed, list | tuple):
        return given  # for the field's own validation to refuse
    terms = [one.model_dump(exclude_unset=True) if isinstance(one, BaseModel) else one for one in listed]
    config = {"rewards": terms}
    if given.get("config") not in (None, {}, config):
        raise ValueError("with `rewards`, each of them has its own `config`; leave the request's out")
    return {**given, "reward": SUM, "config": config}


class RewardRequest(Request):
    """Score whole groups."""

    reward: str = "opera"
    rewards: Rewards | None = Field(
        None,
        exclude=True,
        description="In place of `reward` and `config`: a weighted sum of rewards, computed on one tree.",
    )
    preset: str = "hardened"
    config: dict[str, Any] = Field(default_factory=dict, description="Overrides single fields of the preset.")
    detail: Detail = "segments"
    timeout_s: float | None = Field(None, gt=0, description="Drop the work unscored after this many seconds.")
    weight_version: str | None = Field(None, description="Refuse (409) when other weights are loaded.")
    run_id: str | None = None
    step: Step | None = None
    groups: list[Group] = Field(min_length=1)

    _summed = model_validator(mode="before")(summed)


class SegmentResult(Answer):
    """One paragraph of the think block."""

    index: int
    start: int
    """First token of the segment in the response (in the trajectory, where it has turns)."""
    end: int
    """The boundary: one past the segment's last token, separator included."""
    text: str
    reflective: bool
    mean_logprob: float
    """Mean log-prob of the reference after this segment."""
    gain: float
    """`mean_logprob` after this segment minus before it."""
    credited: bool
    """Whether this segment counts by the reward's own rules; never where they give reflection no weight."""
    token_logprobs: list[float] | None = None
    """Per reference token, with `detail: tokens`."""


class ReferenceResult(Answer):
    """One of several alternative references under a trajectory's final context."""

    mean_logprob: float
    sum_logprob: float
    reward: float
    """What the trajectory would earn by this reference alone."""


class TrajectoryResult(Answer):
    """The reward of one trajectory and everything it was computed from, or the error that prevented it."""

    id: str
    status: Status
    reward: float | None = None
    components: dict[str, float] | None = None
    mean_logprob: float | None = None
    sum_logprob: float | None = None
    perplexity: float | None = None
    segments: list[SegmentResult] | None = None
    steps: list[StepResult] | None = None
    """One a turn of the assistant, in order; null for a trajectory that came without turns."""
    token_logprobs: list[float] | None = None
    """Per reference token under the final context, with `detail: tokens`."""
    response_tokens: int | None = None
    """Length of the response, of which the policy's tokens count; null where it could not be read."""
    token_rewards: list[float] | None = None
    """One a response token, padding and environment included as 0: what a trainer adds to its advantage."""
    token_weights: list[float] | None = None
    """One a response token, padding and environment included as 0: what a trainer multiplies its advantage by,
    before it adds `token_rewards`."""
    references: list[ReferenceResult] | None = None
    """One an alternative, where several references were given: reward, components and gains are combined from
    them, the log-probs above are the first one's."""
    flags: list[str] = Field(default_factory=list)
    error: ErrorDetail | None = None


class GroupResult(Answer):
    """One group's answer, trajectories in the order of the request."""

    group_id: str
    size: int
    scored: int
    """Trajectories that were scored and ranked among each other; less than `size` when some have errors."""
    initial_mean_logprob: float | None
    """Mean log-prob of the reference before any thought; null when nothing in the group was scored."""
    reference_tokens: int
    initial_token_logprobs: list[float] | None = None
    """Per reference token before any thought, with `detail: tokens`."""
    reference_token_texts: list[str] | None = None
    """The reference's tokens as they read, with `detail: tokens`."""
    trajectories: list[TrajectoryResult]
    diagnostics: dict[str, float] = Field(default_factory=dict)
    """Group-level numbers behind the rewards: for OPERA the calibrated margin, temperature and spread."""
    message: str | None = None
    """Why the group says nothing and what to do about it, where its members are flagged `uninformative` or
    `no_spread`."""


class RewardResult(Answer):
    """The answer of POST /reward."""

    model: ModelInfo
    second_model: ModelInfo | None = None
    """The frozen model that it was compared with; null where the reward reads none."""
    reward: str
    preset: str
    config_hash: str
    components: list[str] = Field(default_factory=list)
    """Keys of every scored trajectory's `components`, also when none could be scored."""
    groups: list[GroupResult]
    usage: Usage
    timing_ms: Timing
    ema_baseline: float | None = None
    """Running mean of the run's log-probs (the authors' `ppl_ema_baseline`); `paper` preset only, a metric."""

    @property
    def rewards(self) -> list[list[float | None]]:
        """Return the rewards, one list a group; None where a trajectory has an error."""
        return [[trajectory.reward for trajectory in group.trajectories] for group in self.groups]
