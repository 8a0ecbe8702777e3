"""What trainers carry of a trajectory of several turns becomes the fields of the wire's `Trajectory`.

Knows the wire, and the shapes that trainers share: ids with a mask, calls of a model, chat messages. No trainer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from opera_client.wire import TrajectoryResult

Conversation = Sequence[Mapping[str, Any]]
_ROLES = ("assistant", "tool", "user")


def masked(ids: Sequence[int], mask: Sequence[Any] | None) -> dict[str, Any]:
    """Return ids with a mask, 1 (or true) for the policy's own; where all of them are, ids of one response."""
    own = [int(bool(one)) for one in mask] if mask is not None else []
    if not own or all(own):
        return {"response_token_ids": list(ids)}
    return {"response_token_ids": list(ids), "response_mask": own}


def of_ranges(tokens: Sequence[int], ranges: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Return what begins with the first range; `ranges` are the policy's tokens, as OpenRLHF has them."""
    if not ranges:
        return {"response_token_ids": []}
    start, end = ranges[0][0], ranges[-1][1]
    mask = [0] * (end - start)
    for first, last in ranges:
        mask[first - start : last - start] = [1] * (last - first)
    return masked(tokens[start:end], mask)


def of_calls(calls: Iterable[tuple[Sequence[int], Sequence[int]]]) -> dict[str, Any] | None:
    """Return the trajectory behind the first call's prompt; a call is a prompt and what the policy wrote, as ids.

    None where a call's prompt does not begin with all that came before it: a template has dropped an earlier
    thought, or tokenised the conversation anew. Send messages then.
    """
    path: list[int] = []
    ranges: list[tuple[int, int]] = []
    for prompt, written in calls:
        if list(prompt[: len(path)]) != path:
            return None
        ranges.append((len(prompt), len(prompt) + len(written)))
        path = [*prompt, *written]
    return of_ranges(path, ranges) if ranges else None


def has_environment(completion: str | Conversation) -> bool:
    """Whether somebody else than the assistant speaks in a completion."""
    return not isinstance(completion, str) and any(message["role"] != "assistant" for message in completion)


def of_messages(completion: Conversation) -> dict[str, Any]:
    """Return turns; whoever is neither the assistant nor a tool speaks as the environment."""
    return {
        "turns": [
            {**message, "role": message["role"] if message["role"] in _ROLES else "environment"}
            for message in completion
        ]
    }


def steps_of(result: TrajectoryResult, tokens: int) -> list[tuple[int, float]]:
    """Return, for each of the policy's turns, one past its last token among the response's, and its step reward.

    `tokens` is the response's length: one without turns is one turn. Empty without a reward.
    """
    if result.reward is None:
        return []
    if result.steps is None:
        return [(tokens, result.reward)]
    return [(step.end, step.reward) for step in result.steps]
