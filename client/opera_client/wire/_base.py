"""What every request and answer is made of: strictness, token ids, prompts.

Requests refuse unknown fields, answers ignore them; NaN never travels.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field


class FirstError(FailFast):
    """Marks a list that is checked up to its first wrong element: a million errors help nobody.

    Unlike pydantic's own mark it is hashable, as unions need it.
    """

    __hash__ = object.__hash__


TokenId = Annotated[int, Field(strict=True, ge=0, lt=2**31)]
TokenIds = Annotated[list[TokenId], FirstError()]
Step = Annotated[int, Field(ge=0, lt=2**63)]
"""A step of a training run; databases keep it in 64 bits."""
WeightVersion = Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,128}$")]
"""A name of weights: up to 128 printable ASCII characters without spaces, as it travels in headers, too."""
Detail = Literal["reward", "segments", "tokens"]
Status = Literal["ok", "error"]


class Request(BaseModel):
    """What a caller sends: a field it does not know is a mistake and refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class Answer(BaseModel):
    """What the service says. Answers may grow: an older client ignores what it does not know."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


def needs_one(text: object, ids: object, name: str) -> None:
    """Raise ValueError when something was given neither as text nor as ids."""
    if text is None and ids is None:
        raise ValueError(f"give `{name}` or `{name}_token_ids`")


class Message(BaseModel):
    """One chat message; further keys (name, tool_calls, …) reach the model's chat template untouched."""

    model_config = ConfigDict(extra="allow", frozen=True)
    role: str
    content: str


Prompt = str | Annotated[list[Message], FirstError()]
