"""What a service says about single tokens, as trainers apply it: A_t becomes weight_t · A_t + reward_t.

Knows the wire's answers; no trainer, no tensors.
"""

from __future__ import annotations

from collections.abc import Sequence

from opera_client.errors import InvalidRequest
from opera_client.wire import TrajectoryResult


def arrays_of(result: TrajectoryResult, tokens: int) -> tuple[list[float], list[float]] | None:
    """Return token weights and token rewards, one a response token; None where the reward shapes none.

    `tokens` is the length of the trainer's response: what it has behind the service's last token (padding) is 0.
    Raises InvalidRequest when the service saw more tokens than the trainer has.
    """
    if result.token_weights is None and result.token_rewards is None:
        return None
    known = len(result.token_weights or result.token_rewards or ())
    if known > tokens:
        raise InvalidRequest(
            f"the service shaped {known} tokens of a response that has {tokens}; send the response as ids"
        )
    weights = result.token_weights if result.token_weights is not None else [1.0] * known
    rewards = result.token_rewards if result.token_rewards is not None else [0.0] * known
    padding = [0.0] * (tokens - known)
    return [*weights, *padding], [*rewards, *padding]


def shaped(advantages: Sequence[float], arrays: tuple[Sequence[float], Sequence[float]] | None) -> list[float]:
    """Return the advantages of a response's tokens after shaping; as they are without any."""
    if arrays is None:
        return list(advantages)
    return [weight * advantage + reward for advantage, weight, reward in zip(advantages, *arrays, strict=True)]
