"""POST /reward/hint: what is known of a trajectory so far. It saves time and changes no number."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from opera_client.wire._base import Answer, Detail, Prompt, Request, Step, TokenIds, needs_one
from opera_client.wire.member import Name
from opera_client.wire.reference import AnyReference, must_be_one_reference
from opera_client.wire.turns import TokenMask, Turns


class HintPart(Request):
    """What has come since the hint before: token ids, with a mask where not all are the policy's, or turns."""

    token_ids: TokenIds | None = None
    mask: TokenMask | None = Field(
        None, description="One number a token: 1 the policy wrote, 0 its environment did."
    )
    turns: Turns | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> HintPart:
        if (self.token_ids is None) == (self.turns is None):
            raise ValueError("give `token_ids` or `turns`")
        if self.mask is not None and len(self.mask) != len(self.token_ids or ()):
            raise ValueError("`mask` needs one number for each of `token_ids`")
        return self


class HintRequest(Request):
    """The `seq`-th part of a member's trajectory. Prompt, reference and reward are read with `seq` 0 only."""

    run_id: str | None = None
    step: Step | None = None
    group_id: Name
    member_id: Name
    seq: int = Field(ge=0, lt=2**31, description="0, 1, 2, …; the same number again is the same part.")
    append: HintPart
    prompt: Prompt | None = None
    prompt_token_ids: TokenIds | None = None
    reference: AnyReference = None
    reference_token_ids: TokenIds | None = None
    task: Literal["open", "math"] = "open"
    reward: str = "opera"
    preset: str = "hardened"
    config: dict[str, Any] = Field(default_factory=dict)
    detail: Detail = Field(
        "segments", description="As the final request will ask: `reward` prices fewer boundaries."
    )

    @model_validator(mode="after")
    def _complete(self) -> HintRequest:
        if self.seq == 0:
            needs_one(self.prompt, self.prompt_token_ids, "prompt")
        must_be_one_reference(self.reference, self.reference_token_ids)
        return self


class HintResult(Answer):
    """Whether hints are of use here."""

    accepted: bool
    """False where the engine keeps nothing between calls: then no further hint is of use either."""
