"""Which weights all replicas are to serve: pure and synchronous, with an injected clock.

Two phases: an offer is staged by every replica that may serve, then one number is raised and all switch. A replica
may serve while its lease lasts, and gets one only on the current weights. It knows no Ray, no files and no engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from opera_client.errors import DeadlineExceeded, OperaError, PolicyBusy, WeightVersionTaken

_FORGET_LEASES = 10

Clock = Callable[[], float]
"""Seconds on any monotonic scale."""


@dataclass(frozen=True)
class Weights:
    """One set of weights and its place in their order."""

    number: int
    """0 for what the engines were started with."""
    version: str
    revision: str
    path: str | None = None
    """Where every replica finds them; None for what the engines were started with."""
    canary_logprob: float | None = None
    """The sender's own number, see `WeightManager.load`."""


@dataclass(frozen=True)
class Beat:
    """What a replica says about itself."""

    replica: str
    serving: Weights
    reading: int | None = None
    """Number of the weights that it is reading or holds staged."""
    staged: int | None = None
    """Number of the weights it could switch to at once; it scores nothing until it is told what to do."""
    refused: int | None = None
    """Number of the weights it could not stage, because of `reason`."""
    reason: OperaError | None = None


@dataclass(frozen=True)
class Order:
    """What a replica is to do.

    `stay`; `stage` the weights; `switch` to the staged ones; `drop` them; `load` the weights at once, because it
    missed the switch.
    """

    kind: Literal["stay", "stage", "switch", "drop", "load"]
    lease_s: float
    """How long after it asked it may serve; 0 where nothing was granted."""
    weights: Weights | None = None


@dataclass
class _Known:
    """A replica as it was when it spoke last."""

    beat: Beat
    lease_until: float
    """On the ledger's clock; later than the replica's own end of the same lease."""
    heard: float = 0.0


@dataclass
class _Offer:
    weights: Weights
    until: float
    outcome: OperaError | None = None
    """Why it was withdrawn."""


@dataclass
class Ledger:
    """The weights of replicas that were started alike."""

    clock: Clock
    lease_s: float
    stage_s: float
    """How long all replicas may take to stage an offer."""
    current: Weights | None = None
    """None until the first replica has come."""
    revisions: dict[str, str] = field(default_factory=dict)
    """Content of every version that ever served."""

    def __post_init__(self) -> None:
        self.replicas: dict[str, _Known] = {}
        self._offer: _Offer | None = None
        # Replicas may hold leases that an earlier ledger gave them.
        self._unknown_until = self.clock() + self.lease_s
        self._last = 0

    # --- replicas ----------------------------------------------------------------------------------------

    def hear(self, beat: Beat) -> Order:
        """Note what a replica says; return what it is to do."""
        known = self.replicas.setdefault(beat.replica, _Known(beat, -1.0))
        known.beat, known.heard = beat, self.clock()
        self._forget()
        self._last = max(self._last, beat.serving.number, beat.reading or 0, beat.refused or 0)
        if self.current is None or beat.serving.number > self.current.number:
            self._adopt(beat.serving)  # the ledger was lost, the replicas were not
        return self.order(beat.replica)

    def order(self, replica: str) -> Order:
        """Return what a replica is to do now; extends its lease where it has the current weights."""
        known, current = self.replicas[replica], self._current()
        beat, offer = known.beat, self._offer
        if beat.serving.number == current.number:
            known.lease_until = self.clock() + self.lease_s
            lease_s = self.lease_s
            if beat.staged is not None and (offer is None or beat.staged != offer.weights.number):
                return Order("drop", lease_s)
            if offer is not None and beat.reading is None and beat.refused != offer.weights.number:
                return Order("stage", lease_s, offer.weights)
            return Order("stay", lease_s)
        if beat.staged is not None:
            return Order("switch" if beat.staged == current.number else "drop", 0.0, current)
        return Order("load" if beat.reading is None else "stay", 0.0, current)

    def _forget(self) -> None:
        """Drop replicas that have been gone for so long that nothing is left to wait for."""
        gone = self.clock() - _FORGET_LEASES * self.lease_s
        self.replicas = {name: known for name, known in self.replicas.items() if known.heard > gone}

    # --- weights -----------------------------------------------------------------------------------------

    def serves(self, version: str, revision: str) -> bool:
        """Whether these weights are current. Raises `WeightVersionTaken` when the version names others."""
        known = self.revisions.get(version)
        if known is not None and known != revision:
            raise WeightVersionTaken(
                f"weight version {version!r} names other weights ({known[:23]}…); "
                "give every set of weights a version of its own",
                field="weight_version",
            )
        return known is not None and version == self._current().version

    def offer(self, version: str, revision: str, path: str, canary_logprob: float | None) -> Weights:
        """Have all replicas stage these weights. Raises `PolicyBusy` when others are on their way."""
        now = self.clock()
        if self._offer is not None or now < self._unknown_until:
            error = PolicyBusy("other weights are being loaded, or the replicas are counted; push again")
            error.retry_after = 1.0 if self._offer is not None else max(1.0, self._unknown_until - now)
            raise error
        self._last = max(self._last, self._current().number) + 1  # a number that was withdrawn is not used again
        weights = Weights(self._last, version, revision, path, canary_logprob)
        self._offer = _Offer(weights, now + self.stage_s)
        return weights

    @property
    def on_offer(self) -> Weights | None:
        """The weights that replicas are asked to stage."""
        return None if self._offer is None else self._offer.weights

    def decided(self) -> OperaError | bool:
        """Return False while replicas are still staging, True once all have, or why one did not.

        Only those count that may serve: a replica that fell silent is waited for until its lease is over.
        """
        if self._offer is None:
            return PolicyBusy("other weights were brought in meanwhile; push again")
        now, number = self.clock(), self._offer.weights.number
        serving = [known for known in self.replicas.values() if known.lease_until > now]
        for known in serving:
            if known.beat.refused == number and known.beat.reason is not None:
                return known.beat.reason
        if serving and all(known.beat.staged == number for known in serving):
            return True
        if now >= self._offer.until:
            return DeadlineExceeded(f"not all replicas had these weights after {self.stage_s:g} s; push again")
        return False

    def commit(self) -> Weights:
        """Raise the number: from now on only the offered weights are served."""
        assert self._offer is not None, "nothing is on offer"
        self._adopt(self._offer.weights)
        self._offer = None
        return self._current()

    def withdraw(self) -> None:
        """Forget the offer; those who staged it drop it."""
        self._offer = None

    def learn(self, current: Weights, revisions: Mapping[str, str]) -> bool:
        """Take up later weights that were committed elsewhere; return whether they were later."""
        self.revisions.update(revisions)
        if self._offer is not None and self._offer.weights == current:
            return False  # our own, about to be committed
        if self.current is not None and current.number <= self.current.number:
            return False
        self._adopt(current)
        self._offer = None  # it was numbered before those
        return True

    def settled(self) -> bool:
        """Whether no replica can serve older weights any more."""
        now, number = self.clock(), self._current().number
        return all(
            known.beat.serving.number == number or known.lease_until <= now for known in self.replicas.values()
        )

    @property
    def next_event(self) -> float:
        """When time alone may change `decided` or `settled`."""
        now = self.clock()
        times = [known.lease_until for known in self.replicas.values() if known.lease_until > now]
        return min([*times, self._offer.until] if self._offer else times, default=now + self.lease_s)

    def _adopt(self, weights: Weights) -> None:
        self.current = weights
        self.revisions[weights.version] = weights.revision

    def _current(self) -> Weights:
        assert self.current is not None, "no replica has come yet"
        return self.current
