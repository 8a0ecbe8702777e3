"""A trajectory of several turns: messages in, what each of the policy's turns earned out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from opera_client.wire._base import Answer, FirstError, Message, Text, TokenIds

MOST_TURNS = 1024
"""Messages of one trajectory."""


def _as_numbers(given: object) -> object:
    return [int(one) if isinstance(one, bool) else one for one in given] if isinstance(given, list) else given


TokenMask = Annotated[
    list[Annotated[int, Field(strict=True, ge=0, le=1)]], FirstError(), BeforeValidator(_as_numbers)
]
"""1 or true for a token that the policy wrote, 0 or false for one of its environment."""


class Turn(Message):
    """One message of a trajectory: text or token ids. Further keys (tool_calls, …) reach the chat template.

    The assistant's turns are the policy's; all others are its environment's and only context.
    """

    role: Literal["assistant", "tool", "user", "environment"]
    content: Text = ""
    token_ids: TokenIds | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Turn:
        if self.token_ids is None and "content" not in self.model_fields_set:
            raise ValueError("give `content` or `token_ids`")
        return self


Turns = Annotated[list[Turn], FirstError(), Field(min_length=1, max_length=MOST_TURNS)]


class StepResult(Answer):
    """What one of the policy's turns did to the reference, and what it earned."""

    turn: int
    """0 for the first turn of the assistant."""
    start: int
    """Its first token in the trajectory, environment tokens counted."""
    end: int
    """One past its last token, its end-of-turn token included."""
    mean_logprob: float
    """Mean log-prob of the reference after this turn and what the environment answered to it; after the last
    turn: in place of its answer."""
    gain: float
    """`mean_logprob` after this turn minus before it."""
    reward: float
    """The turn's part of the trajectory's reward; the parts add up to it."""
