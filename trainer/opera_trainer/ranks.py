"""Several processes that train together, as torchrun and accelerate start them: who is first, who waits.

Knows the variables they set; no trainer.
"""

from __future__ import annotations

import os


def world_size() -> int:
    """Return how many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def first() -> bool:
    """Tell whether this process is the one that writes files and talks to the user."""
    return int(os.environ.get("RANK", "0")) == 0


def wait() -> None:
    """Return when all processes have come here. A collective."""
    if world_size() > 1:
        import torch
        from accelerate import PartialState

        # Without `cpu` a machine without GPUs counts as one process, here and in the trainers that come after.
        PartialState(cpu=not torch.cuda.is_available()).wait_for_everyone()
