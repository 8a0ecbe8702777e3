"""What the log keeps of one scored group: names and numbers always, what was sent if wanted.

Plain data that is cheap to make on the request's path; turning it into rows is the writer's business.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter

from opera_client.wire import SegmentResult


@dataclass(frozen=True)
class Sent:
    """A prompt, reference or response as it came: text (or messages), token ids, or both."""

    text: str | list[dict[str, Any]] | None = None
    ids: list[int] | None = None

    @property
    def bytes(self) -> int:
        """About what it takes in memory."""
        texts = [one["content"] for one in self.text] if isinstance(self.text, list) else [self.text or ""]
        return sum(map(len, texts)) + 8 * len(self.ids or ())

    @property
    def columns(self) -> tuple[str | None, str | None]:
        """Text and ids as the database has them; messages and ids as JSON."""
        text = json.dumps(self.text, ensure_ascii=False) if isinstance(self.text, list) else self.text
        return text, None if self.ids is None else _compact(self.ids)


def _compact(numbers: Sequence[int]) -> str:
    return json.dumps(numbers, separators=(",", ":"))


SECOND = ("second_model", "second_revision", "second_weight_version")
"""Columns of `Entry.second`."""
_SEGMENTS = TypeAdapter(tuple[SegmentResult, ...])
NOTHING = Sent()
BETWEEN_REFERENCES = "\x1e"
"""The record separator, which stands in no text."""


def references_of(text: str | None) -> str | list[str] | None:
    """Return a kept reference as it was sent."""
    return text.split(BETWEEN_REFERENCES) if text and BETWEEN_REFERENCES in text else text


@dataclass(frozen=True)
class MemberEntry:
    """One trajectory and its reward."""

    id: str
    fresh: bool
    """Scored for the first time; a group is scored again when a member comes late."""
    status: str
    reward: float | None
    components: Mapping[str, float] | None
    mean_logprob: float | None
    flags: tuple[str, ...]
    error: str | None
    """The error's code."""
    response: Sent = NOTHING
    """Of turns what the policy and its environment said, one after the other."""
    turns: tuple[Mapping[str, Any], ...] | None = None
    """As they were sent; None where a response was, or nothing is kept."""
    response_mask: Sequence[int] | None = None
    response_tokens: int | None = None
    segments: tuple[SegmentResult, ...] | None = None
    """Thoughts as they were priced; None where none were."""

    @property
    def sent_bytes(self) -> int:
        """About what the response takes in memory."""
        ids = sum(len(turn.get("token_ids") or ()) for turn in self.turns or ())
        return (1 + bool(self.turns)) * self.response.bytes + 8 * (ids + len(self.response_mask or ()))

    def segments_column(self, *, texts: bool) -> str | None:
        """Return the thoughts as JSON; their own text is among what was sent."""
        if self.segments is None:
            return None
        left_out = {"token_logprobs"} if texts else {"token_logprobs", "text"}
        return _SEGMENTS.dump_json(self.segments, exclude={"__all__": left_out}).decode()


@dataclass(frozen=True)
class Entry:
    """One group of one request."""

    time: float
    """Unix seconds."""
    request_id: str | None
    run_id: str | None
    step: int | None
    group_id: str
    task: str
    reward: str
    preset: str
    config: Mapping[str, Any]
    config_hash: str
    model: str
    revision: str
    weight_version: str
    dtype: str
    engine: str
    initial_mean_logprob: float | None
    members: tuple[MemberEntry, ...]
    prompt: Sent = NOTHING
    reference: Sent = NOTHING
    """Alternatives are one text, with `BETWEEN_REFERENCES` between them."""
    reference_tokens: int = 0
    expected: int | None = None
    """Members that the group was to have, where they came one by one."""
    diagnostics: Mapping[str, float] = field(default_factory=dict)
    second: tuple[str, str, str] | None = None
    """Model, revision and weight version that it was compared with, where the reward reads a second model."""

    @property
    def keeps_sent(self) -> bool:
        """Whether what was sent is in it."""
        return self.prompt != NOTHING

    @property
    def bytes(self) -> int:
        """About what it takes in memory while it waits."""
        texts = self.prompt.bytes + self.reference.bytes + sum(one.sent_bytes for one in self.members)
        thoughts = sum(512 + len(segment.text) for one in self.members for segment in one.segments or ())
        return 1024 * (1 + len(self.members)) + texts + thoughts

    def group_row(self) -> dict[str, object]:
        """Return the row of the table `groups`, by column."""
        prompt, prompt_ids = self.prompt.columns
        reference, reference_ids = self.reference.columns
        return {
            "time": self.time,
            "request_id": self.request_id,
            "run_id": self.run_id,
            "step": self.step,
            "group_id": self.group_id,
            "task": self.task,
            "reward": self.reward,
            "preset": self.preset,
            "config": json.dumps(self.config, sort_keys=True),
            "config_hash": self.config_hash,
            "model": self.model,
            "revision": self.revision,
            "weight_version": self.weight_version,
            "dtype": self.dtype,
            "engine": self.engine,
            **dict(zip(SECOND, self.second or (None,) * len(SECOND), strict=True)),
            "initial_mean_logprob": self.initial_mean_logprob,
            "prompt": prompt,
            "prompt_is_messages": isinstance(self.prompt.text, list),
            "prompt_token_ids": prompt_ids,
            "reference": reference,
            "reference_token_ids": reference_ids,
            "reference_tokens": self.reference_tokens,
            "expected": self.expected,
            "diagnostics": json.dumps(dict(self.diagnostics)),
        }

    def trajectory_rows(self) -> Iterator[dict[str, object]]:
        """Yield the rows of the table `trajectories`, by column, without the group's key."""
        for position, one in enumerate(self.members):
            response, response_ids = one.response.columns
            turns = None if one.turns is None else json.dumps(one.turns, ensure_ascii=False)
            yield {
                "position": position,
                "id": one.id,
                "fresh": one.fresh,
                "status": one.status,
                "reward": one.reward,
                "components": None if one.components is None else json.dumps(dict(one.components)),
                "mean_logprob": one.mean_logprob,
                "flags": json.dumps(one.flags),
                "error": one.error,
                "response": response,
                "response_token_ids": response_ids,
                "response_tokens": one.response_tokens,
                "segments": one.segments_column(texts=self.keeps_sent),
                "turns": turns,
                "response_mask": None if one.response_mask is None else _compact(one.response_mask),
            }
