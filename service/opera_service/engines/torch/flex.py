"""The `flex` route: one flex_attention over the packed forest, with a block mask built from intervals.

The default on GPUs. A key is visible when it is an ancestor of the query or the query itself, which two preorder
numbers a token decide. No [tokens, tokens] array is ever made.
"""

from __future__ import annotations

from typing import ClassVar

from opera_service.engines.torch.packed import PackedRoute, StepAttention
from opera_service.engines.torch.tree_sdpa import SdpaAttention


class FlexRoute(PackedRoute):
    """Attends with SDPA until the block mask is in."""

    name: ClassVar[str] = "flex"
    attention: ClassVar[type[StepAttention]] = SdpaAttention
