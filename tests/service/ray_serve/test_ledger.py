"""The two-phase switch, on paper: what replicas may serve at any moment, whatever is lost on the way."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.budget import examples

from opera_client.errors import DeadlineExceeded, InvalidWeights, PolicyBusy, Unavailable, WeightVersionTaken
from opera_service.ray_serve.ledger import Beat, Ledger, Order, Weights
from opera_service.ray_serve.replica_state import ReplicaState

START = Weights(0, "0", "sha256:start")
LEASE, STAGE = 10.0, 100.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(clock: Clock) -> Ledger:
    made = Ledger(clock, LEASE, STAGE)
    made.hear(Beat("a", START))
    clock.now += LEASE
    made.hear(Beat("a", START))
    made.hear(Beat("b", START))
    return made


def offered(ledger: Ledger) -> Weights:
    return ledger.offer("1", "sha256:one", "/w/1", None)


def test_all_stage_then_all_switch(ledger):
    weights = offered(ledger)
    order = ledger.order("a")
    assert (order.kind, order.weights, order.lease_s) == ("stage", weights, LEASE)
    assert ledger.hear(Beat("a", START, reading=1)).kind == "stay"
    ledger.hear(Beat("a", START, reading=1, staged=1))
    assert ledger.decided() is False
    ledger.hear(Beat("b", START, reading=1, staged=1))
    assert ledger.decided() is True
    assert ledger.order("a").kind == "stay"  # before the commit nobody switches
    assert ledger.commit() == weights
    assert ledger.order("a").kind == "switch"
    assert not ledger.settled()
    for name in "ab":
        assert ledger.hear(Beat(name, weights)).lease_s == LEASE
    assert ledger.settled()


def test_one_refusal_keeps_the_old_weights_everywhere(ledger):
    offered(ledger)
    ledger.hear(Beat("a", START, reading=1, staged=1))
    why = InvalidWeights("tensor 'salt' is missing")
    ledger.hear(Beat("b", START, refused=1, reason=why))
    assert ledger.decided() is why
    ledger.withdraw()
    assert ledger.order("a").kind == "drop"
    assert ledger.hear(Beat("a", START)).kind == "stay"
    # The next offer has another number: what b refused was not this.
    assert offered(ledger).number == 2
    assert ledger.hear(Beat("b", START, refused=1, reason=why)).kind == "stage"


def test_a_silent_replica_is_waited_for_as_long_as_it_may_serve_and_then_must_catch_up(ledger, clock):
    weights = offered(ledger)
    clock.now += LEASE - 1
    ledger.hear(Beat("a", START, reading=1, staged=1))
    assert ledger.decided() is False
    clock.now += 1  # b was heard LEASE ago
    assert ledger.decided() is True
    ledger.commit()
    ledger.hear(Beat("a", weights))
    assert ledger.settled()
    order = ledger.hear(Beat("b", START))
    assert (order.kind, order.weights, order.lease_s) == ("load", weights, 0.0)
    assert ledger.hear(Beat("b", START, reading=1)).lease_s == 0.0
    assert ledger.hear(Beat("b", weights)).lease_s == LEASE


def test_a_new_replica_serves_only_after_it_has_loaded_what_the_others_serve(ledger):
    weights = offered(ledger)
    for name in "ab":
        ledger.hear(Beat(name, START, reading=1, staged=1))
    ledger.commit()
    order = ledger.hear(Beat("c", START))
    assert (order.kind, order.weights, order.lease_s) == ("load", weights, 0.0)
    assert ledger.hear(Beat("c", weights)).lease_s == LEASE


def test_staging_that_takes_too_long_is_given_up(ledger, clock):
    offered(ledger)
    for _ in range(20):
        clock.now += STAGE / 20
        for name in "ab":
            ledger.hear(Beat(name, START, reading=1))
    assert isinstance(ledger.decided(), DeadlineExceeded)


def test_one_offer_at_a_time_and_none_before_all_leases_are_known(ledger, clock):
    offered(ledger)
    with pytest.raises(PolicyBusy) as busy:
        offered(ledger)
    assert busy.value.retry_after == 1.0
    fresh = Ledger(clock, LEASE, STAGE)
    fresh.hear(Beat("a", START))
    with pytest.raises(PolicyBusy) as early:
        offered(fresh)
    assert early.value.retry_after == LEASE


def test_a_version_names_one_set_of_weights_for_ever(ledger):
    assert ledger.serves("0", START.revision)
    assert not ledger.serves("1", "sha256:one")
    with pytest.raises(WeightVersionTaken):
        ledger.serves("0", "sha256:other")


def test_a_ledger_that_lost_its_memory_learns_from_the_replicas(clock):
    fresh = Ledger(clock, LEASE, STAGE)
    seventh = Weights(7, "seven", "sha256:7", "/w/7")
    assert fresh.hear(Beat("new", START)).lease_s == LEASE
    assert fresh.hear(Beat("old", seventh)).lease_s == LEASE
    order = fresh.hear(Beat("new", START))
    assert (order.kind, order.weights, order.lease_s) == ("load", seventh, 0.0)


def test_weights_that_another_ledger_committed_end_an_offer_of_lower_number(ledger):
    mine = offered(ledger)
    assert ledger.learn(mine, {"1": mine.revision}) is False  # what is being committed here
    other = Weights(2, "other", "sha256:other", "/w/other")
    assert ledger.learn(other, {"other": other.revision})
    assert isinstance(ledger.decided(), PolicyBusy)
    assert ledger.order("a").kind == "load"
    assert ledger.learn(mine, {}) is False


def test_replicas_that_are_gone_are_forgotten(ledger, clock):
    for number in range(1000):
        clock.now += LEASE
        ledger.hear(Beat(f"replica {number}", START))
    assert len(ledger.replicas) <= 11


class Replica:
    """A replica's own state, which hears its orders at times of its own."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.state = ReplicaState(name, START, clock)
        self.order, self.asked = None, 0.0


class Switching(RuleBasedStateMachine):
    """Three replicas, lost and late messages, restarts of the ledger and of replicas."""

    replicas = st.integers(0, 2)

    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        self.ledger = Ledger(self.clock, LEASE, STAGE)
        self.all = [Replica(str(n), self.clock) for n in range(3)]
        self.committed = START
        self.versions = 0
        for replica in self.all:
            self.ledger.hear(replica.state.beat())
        self.clock.now += LEASE + 1

    @rule(at=replicas)
    def all_goes_well(self, at: int) -> None:
        """What happens nearly always, or the machine would hardly ever come to a switch."""
        self.ask(at)
        self.obey(at)
        self.read(at, True)
        self.ask(at)

    @rule(seconds=st.sampled_from([0.5, 3.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(at=replicas)
    def ask(self, at: int) -> None:
        replica = self.all[at]
        replica.asked, replica.order = self.clock.now, self.ledger.hear(replica.state.beat())

    @rule(at=replicas)
    def obey(self, at: int) -> None:
        replica, order = self.all[at], self.all[at].order
        replica.order = None
        if order is None:
            return
        step = replica.state.obey(order, replica.asked)
        if step == "load" or (step == "switch" and replica.state.staged):
            replica.state.serve()
        elif step == "drop" and replica.state.reading is not None:
            replica.state.refuse(Unavailable("another replica could not load these weights"))

    @rule(at=replicas, well=st.booleans())
    def read(self, at: int, well: bool) -> None:
        state = self.all[at].state
        if state.reading is None or state.staged:
            return
        if well:
            state.stage()
        else:
            state.refuse(InvalidWeights("no"))

    @rule()
    def offer(self) -> None:
        self.versions += 1
        with suppress(PolicyBusy):
            self.ledger.offer(str(self.versions), f"sha256:{self.versions}", f"/w/{self.versions}", None)

    @rule()
    def decide(self) -> None:
        if self.ledger.on_offer is None:
            return
        decision = self.ledger.decided()
        if decision is True:
            # One switch: at this moment nobody who may answer can score on older weights.
            for replica in self.all:
                if replica.state.may_serve:
                    assert replica.state.staged
                    assert replica.state.reading == self.ledger.on_offer
            self.committed = self.ledger.commit()
        elif decision is not False:
            self.ledger.withdraw()

    @rule(at=replicas)
    def replica_is_replaced(self, at: int) -> None:
        self.all[at] = Replica(self.all[at].state.name + "'", self.clock)

    @rule()
    def coordinator_is_replaced(self) -> None:
        self.ledger = Ledger(self.clock, LEASE, STAGE, self.committed, dict(self.ledger.revisions))

    @invariant()
    def who_may_serve_scores_on_the_committed_weights(self) -> None:
        if not hasattr(self, "all"):
            return
        for replica in self.all:
            if replica.state.may_serve and not replica.state.staged:
                assert replica.state.serving == self.committed


TestSwitching = Switching.TestCase
TestSwitching.settings = settings(max_examples=examples(150), stateful_step_count=60, deadline=None)


def test_a_lease_counts_from_the_question_not_from_the_answer(clock):
    state = ReplicaState("a", START, clock)
    clock.now = 8.0  # the answer took so long
    assert state.obey(Order("stay", LEASE), asked=0.0) is None
    clock.now = LEASE - 0.1
    assert state.may_serve
    clock.now = LEASE
    assert not state.may_serve
