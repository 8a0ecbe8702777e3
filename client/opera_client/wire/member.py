"""POST /reward/member: one trajectory in, answered when its group is complete."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from opera_client.wire._base import Detail, Id, Prompt, Step, TokenIds, needs_one
from opera_client.wire.common import ModelInfo
from opera_client.wire.reference import AnyReference, must_be_one_reference
from opera_client.wire.reward import Rewards, Trajectory, TrajectoryResult, summed

Name = Annotated[Id, Field(min_length=1, max_length=512)]


class MemberRequest(Trajectory):
    """One trajectory of a group, sent alone; answered when the group's other members have come, too.

    All members of a group say the same about everything but their trajectory, `member_id`, `wait_s` and
    `timeout_s`.
    """

    id: Id | None = Field(None, description="What the answer calls the trajectory; `member_id` by default.")
    reward: str = "opera"
    rewards: Rewards | None = Field(
        None, exclude=True, description="A weighted sum in place of `reward`, as in POST /reward."
    )
    preset: str = "hardened"
    config: dict[str, Any] = Field(default_factory=dict, description="Overrides single fields of the preset.")
    detail: Detail = "segments"
    timeout_s: float | None = Field(None, gt=0, description="Give up waiting and scoring after this many seconds.")
    weight_version: str | None = Field(None, description="Refuse (409) when other weights are loaded.")
    run_id: str | None = None
    step: Step | None = None
    group_id: Name = Field(description="Members with equal run_id, step, group_id, reward and config meet.")
    group_size: int = Field(ge=1, description="Members that make the group complete.")
    member_id: Name = Field(description="The same member again gets the same answer and never counts twice.")
    wait_s: float = Field(60.0, ge=0, le=3600, description="How long to wait for the other members.")
    on_timeout: Literal["partial", "error"] = Field(
        "partial", description="Then reward the members present, or answer 408 `group_incomplete`."
    )
    task: Literal["open", "math"] = "open"
    prompt: Prompt | None = None
    prompt_token_ids: TokenIds | None = None
    reference: AnyReference = Field(None, description="Text, or a list of up to 8 alternative texts.")
    reference_token_ids: TokenIds | None = None

    _summed = model_validator(mode="before")(summed)

    @model_validator(mode="after")
    def _complete(self) -> MemberRequest:
        needs_one(self.prompt, self.prompt_token_ids, "prompt")
        must_be_one_reference(self.reference, self.reference_token_ids)
        return self


class MemberResult(TrajectoryResult):
    """The answer of POST /reward/member: the trajectory's, ranked among `group_size_seen` members.

    `flags` hold `group_partial` when members were missing, `late_member` when others had their answers before.
    """

    group_id: str
    group_size_seen: int
    model: ModelInfo
    second_model: ModelInfo | None = None
    """The frozen model that it was compared with; null where the reward reads none."""
    config_hash: str
