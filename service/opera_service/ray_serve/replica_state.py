"""What one replica serves, reads and may answer: pure and synchronous, with an injected clock.

Beats come out, orders go in. It knows the ledger's words; no engine, no asyncio and no Ray.
"""

from __future__ import annotations

from typing import Literal

from opera_client.errors import OperaError
from opera_service.ray_serve.ledger import Beat, Clock, Order, Weights

Step = Literal["stage", "load", "switch", "drop"]
"""Read weights and wait for the others; read them and serve; serve what is staged; give up what is read."""


class ReplicaState:
    """One replica's place among the others."""

    def __init__(self, name: str, serving: Weights, clock: Clock) -> None:
        self.name, self.serving, self._clock = name, serving, clock
        self.reading: Weights | None = None
        """Being read, or staged."""
        self.staged = False
        """Read, tried, and waiting for the others; nothing may be scored meanwhile."""
        self._refused: tuple[int, OperaError] | None = None
        self._lease_until = -1.0

    @property
    def may_serve(self) -> bool:
        """Whether the coordinator counts on this replica: no other can have newer weights than this one now."""
        return self._clock() < self._lease_until

    def beat(self) -> Beat:
        """Return what the coordinator is told."""
        number = self.reading.number if self.reading else None
        refused, reason = self._refused or (None, None)
        return Beat(self.name, self.serving, number, number if self.staged else None, refused, reason)

    def obey(self, order: Order, asked: float) -> Step | None:
        """Take in the answer to a beat of the time `asked`, from which its lease counts; return what to do now."""
        if order.lease_s:
            self._lease_until = asked + order.lease_s
        elif order.kind != "switch":
            self.end_lease()  # it missed a switch: nothing may be served until it has caught up
        if order.kind in ("switch", "drop"):
            return order.kind
        if order.kind == "stay" or order.weights is None or self.reading is not None:
            return None
        self.reading, self._refused = order.weights, None
        return order.kind

    def stage(self) -> None:
        """The weights that were read have passed, and wait."""
        self.staged = True

    def serve(self) -> None:
        """The weights that were read serve."""
        assert self.reading is not None, "nothing was read"
        self.serving, self.reading, self.staged = self.reading, None, False

    def refuse(self, error: OperaError) -> None:
        """The weights that were read do not serve, because of `error`."""
        assert self.reading is not None, "nothing was read"
        self._refused = (self.reading.number, error)
        self.reading, self.staged = None, False

    def end_lease(self) -> None:
        """Answer nothing until the coordinator says so again."""
        self._lease_until = -1.0
