"""What every request and answer is made of: strictness, token ids, prompts.

Requests refuse unknown fields, answers ignore them; NaN never travels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field, model_validator


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
THOUGHT_KEYS = ("reasoning_content", "reasoning", "thinking")
"""What templates and trainers call the thought of an assistant's message."""


HALF_CHARACTER = "\ufdd0"
"""Stands on the wire for half of a surrogate pair, which UTF-8 cannot carry; the code point is never a character.
The service refuses texts that hold it, one by one."""
_SURROGATE = re.compile("[\ud800-\udfff]")


def _as_id(given: object) -> object:
    return str(given) if isinstance(given, int) and not isinstance(given, bool) else _mended(given)


def mended(text: str) -> str:
    """Return `text` with what UTF-8 cannot carry replaced."""
    return _SURROGATE.sub(HALF_CHARACTER, text)


def _mended(given: object) -> object:
    if isinstance(given, float) and not math.isfinite(given):
        raise ValueError("NaN is no text; leave it out or fill it in")
    return mended(given) if isinstance(given, str) else given


Id = Annotated[str, BeforeValidator(_as_id)]
"""A name that a caller gives; whole numbers are names, too."""
Text = Annotated[str, BeforeValidator(_mended)]


class Request(BaseModel):
    """What a caller sends: a field it does not know is a mistake and refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class Answer(BaseModel):
    """What the service says. Answers may grow: an older client ignores what it does not know."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


def needs_one(text: object, ids: object, name: str, *, or_else: tuple[str, ...] = ()) -> None:
    """Raise ValueError when something was given neither as text nor as ids; `or_else` names what else would do."""
    if text is None and ids is None:
        *first, last = (f"`{one}`" for one in (name, f"{name}_token_ids", *or_else))
        raise ValueError(f"give {', '.join(first)} or {last}")


def at_most_one(text: object, ids: object, name: str) -> None:
    """Raise ValueError when something was given as text and as ids, of which one would be left unread."""
    if text is not None and ids is not None:
        raise ValueError(f"give `{name}` or `{name}_token_ids`, not both: only one of them can be priced")


TEXT_PARTS = ("text", "input_text", "output_text")


class Message(BaseModel):
    """One chat message; further keys (name, tool_calls, …) reach the model's chat template.

    Content may come as a list of text parts, which are joined, or be missing beside tool calls or a thought
    (`reasoning_content`, `reasoning`, `thinking`), as trainers send it.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    role: str = Field(min_length=1)
    content: Text

    @model_validator(mode="before")
    @classmethod
    def _as_text(cls, given: object) -> object:
        if not isinstance(given, Mapping):
            return given
        content = given.get("content")
        if content is None:
            silent = any(given.get(key) for key in ("tool_calls", *THOUGHT_KEYS))
            rest = {name: value for name, value in given.items() if name != "content"}
            return {**rest, "content": ""} if silent else rest
        return {**given, "content": joined_parts(content) if isinstance(content, list) else content}


def joined_parts(parts: Sequence[object]) -> str:
    """Return the text of content that comes in parts. Raises ValueError naming a part that is no text."""
    texts = []
    for number, part in enumerate(parts):
        kind = part.get("type", "text") if isinstance(part, Mapping) else type(part).__name__
        text = part.get("text") if isinstance(part, Mapping) else part
        if (isinstance(part, Mapping) and kind not in TEXT_PARTS) or not isinstance(text, str):
            raise ValueError(f"part {number} of the content is of type {kind!r}; only text can be read")
        texts.append(text)
    return "".join(texts)


Prompt = Text | Annotated[list[Message], FirstError()]
