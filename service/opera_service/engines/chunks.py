"""How many rows of logits exist at a time: memory grows with the rows that are read, not with the vocabulary."""

from __future__ import annotations

_CPU_LOGITS, _CUDA_LOGITS = 2**22, 2**28
"""Logits in memory at a time."""
_LEAST_ROWS = 64
"""Of a chunk, however large the vocabulary: the head's weights are read once a chunk. With 262,144 tokens a row
among 64 takes two thirds of the CPU time of one among 16."""


def chunk_rows(device: str, vocab_size: int) -> int:
    """Return how many rows are read off the head at once; `device` is torch's type of one."""
    return max(_LEAST_ROWS, (_CUDA_LOGITS if device == "cuda" else _CPU_LOGITS) // vocab_size)
