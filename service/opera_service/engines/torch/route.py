"""What a route through a batch of token trees is."""

from __future__ import annotations

from typing import Protocol

from opera_service.engines.torch.readout import Readout


class Route(Protocol):
    """One way of feeding a batch. Synchronous; runs on the device thread."""

    @property
    def name(self) -> str:
        """As `--route` names it."""
        ...

    def run(self, readout: Readout, max_tokens: int) -> None:
        """Hand every scored row of the readout's tree to it, with at most `max_tokens` tokens in one forward."""
        ...
