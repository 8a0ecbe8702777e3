"""Which tokens of a completion TRL's tools wrote, where TRL has called some.

TRL 1.16 keeps its mask to itself. It puts a tool's answer behind the end token of the turn that called it, in the
words of its chat template; the same words from the same function are found there, or the mask is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any


def tool_mask(completion: Sequence[Mapping[str, Any]], ids: Sequence[int], trainer: Any) -> list[int] | None:
    """Return 1 for each token that the policy wrote and 0 for each of a tool's; None where that is not sure.

    Args:
        completion: TRL's messages, the assistant's first.
        ids: TRL's `completion_ids` of it.
        trainer: the GRPOTrainer; None where it cannot be seen.
    """
    written = getattr(trainer, "_get_tool_suffix_ids", None)
    end = getattr(getattr(trainer, "_tokenizer", None), "eos_token_id", None)
    rounds = [(role, list(said)) for role, said in groupby(completion, key=lambda message: message["role"])]
    if written is None or end is None or {role for role, _ in rounds} - {"assistant", "tool"}:
        return None
    mask = [1] * len(ids)
    at = 0
    for role, said in rounds:
        if role == "assistant":
            continue
        if end not in ids[at:]:
            return None
        start = list(ids).index(end, at) + 1  # a turn of the policy ends with its first end token
        answer = list(written(said))
        at = start + len(answer)
        if list(ids[start:at]) != answer:
            return None
        mask[start:at] = [0] * len(answer)
    return mask
