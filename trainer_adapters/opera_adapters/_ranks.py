"""Groups that straddle ranks, completed: every rank gets the rows that its first and last group lack.

All collectives run before anything that can fail, in the same order on all ranks, so that a rank whose scoring
fails never leaves the others waiting. A straddling group is scored by each rank that holds a part of it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TypeVar

T = TypeVar("T")


def count() -> int:
    """Return the ranks that train together; 1 where torch.distributed does not run in this process."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return 1
    return int(torch.distributed.get_world_size())


def own() -> int:
    """Return this process's rank."""
    return 0 if count() == 1 else int(sys.modules["torch"].distributed.get_rank())


def gather(items: list[T]) -> list[list[T]]:
    """Return every rank's items, by rank. A collective: all ranks must call it."""
    from accelerate.utils import gather_object

    with _own_device():
        found: list[list[T]] = gather_object([items])
    return found


@contextlib.contextmanager
def _own_device() -> Iterator[None]:
    # The current CUDA device belongs to a thread, and TRL awaits rewards on a thread of its own, where it is
    # device 0 on every rank: NCCL would wait for ever.
    import torch
    from accelerate import PartialState

    device = PartialState().device
    with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        yield


def complete(rows: Sequence[T], size: int | None) -> tuple[list[T], list[T]]:
    """Return the rows of other ranks just before and just after `rows` that complete its groups of `size`.

    A collective when there are several ranks; they must agree on `size`.
    """
    if size is None or count() == 1:
        return [], []
    rank = own()
    lengths = [length for (length,) in gather([len(rows)])]
    starts = list(accumulate(lengths, initial=0))
    if all(start % size == 0 for start in starts[:-1]):
        return [], []
    start, stop = starts[rank], starts[rank + 1]
    whole = range(-(-start // size) * size, stop // size * size)
    parts = gather([(at, row) for at, row in enumerate(rows, start) if at not in whole])
    shared = dict(pair for part in parts for pair in part)
    before = range(start // size * size, start)
    after = range(stop, -(-stop // size) * size)
    return [shared[at] for at in before], [shared[at] for at in after if at in shared]
