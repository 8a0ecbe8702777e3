"""Whatever callers do and in whatever order: nobody hears twice, nothing is lost, nothing is counted twice."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule
from tests.budget import examples

from opera_client.errors import EngineFailed, GroupIncomplete, OperaError, Overloaded
from opera_service.groups.group import GroupBatch, Waiter
from opera_service.groups.limits import GroupLimits

from .conftest import Desk, by_name

SIZES = {"pair": 2, "trio": 3, "big": 5, "single": 1}
MODES = {"pair": "partial", "trio": "error", "big": "partial", "single": "error"}
LIMITS = GroupLimits(max_groups=3, max_members=9, max_tokens=24, max_answers=6, keep_s=40.0, idle_s=25.0)


class Callers(RuleBasedStateMachine):
    """Joins, retries, hang-ups, time, successes and failures, against one small state."""

    waiters = Bundle("waiters")
    batches = Bundle("batches")

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(LIMITS)
        self.answers: dict[int, str] = {}
        """By place: what any of its callers heard."""
        self.places: list[object] = []  # keeps places alive, so that their ids stay theirs
        self.left: set[Waiter[str, str]] = set()
        self.joined: list[Waiter[str, str]] = []
        self.out: list[GroupBatch[str, str]] = []

    @rule(
        target=waiters,
        group=st.sampled_from(sorted(SIZES)),
        member=st.sampled_from("abcde"),
        tokens=st.integers(1, 6),
        wait=st.sampled_from([0.0, 5.0, 30.0]),
    )
    def join(self, group, member, tokens, wait):
        state, before = self.desk.state, len(self.joined)
        waiting = (state.waiting_groups, state.waiting_members, state.waiting_tokens)
        try:
            waiter = self.desk.join(
                member, group, size=SIZES[group], on_timeout=MODES[group], tokens=tokens, wait_s=wait
            )
        except OperaError as error:
            if isinstance(error, Overloaded):
                # Refusing may forget what is over, but it adds nothing.
                assert (state.waiting_groups, state.waiting_members, state.waiting_tokens) <= waiting
            assert len(self.joined) == before
            return multiple()
        self.joined.append(waiter)
        self.places.append(waiter.member)
        return waiter

    @rule(waiter=consumes(waiters))
    def leave(self, waiter):
        self.desk.state.leave(waiter)
        if waiter not in self.desk.heard:
            self.left.add(waiter)

    @rule(target=batches, seconds=st.sampled_from([0.0, 1.0, 5.0, 30.0]))
    def tick(self, seconds):
        due = self.desk.tick(seconds)
        assert not {id(batch.group) for batch in due} & {id(batch.group) for batch in self.out}
        self.out += due
        return multiple(*due)

    @rule(batch=consumes(batches), fails=st.booleans())
    def close(self, batch: GroupBatch[str, str], fails):
        group = batch.group
        self.out.remove(batch)
        assert batch.fresh <= batch.members.keys() <= group.members.keys()
        assert (batch.kind == "complete") <= (len(batch.members) == group.size)
        self.desk.state.close(batch, EngineFailed("no") if fails else by_name(batch))

    @invariant()
    def one_answer_a_place(self):
        for waiter, outcome in self.desk.heard.items():
            if isinstance(outcome, str):
                assert self.answers.setdefault(id(waiter.member), outcome) == outcome
            elif isinstance(outcome, GroupIncomplete):
                assert waiter.group.on_timeout == "error"

    @invariant()
    def no_group_is_too_large(self):
        for waiter in self.joined:
            assert len(waiter.group.members) <= waiter.group.size

    @invariant()
    def limits_hold(self):
        state = self.desk.state
        assert state.waiting_groups <= LIMITS.max_groups
        assert state.waiting_members <= LIMITS.max_members
        assert state.waiting_tokens <= LIMITS.max_tokens
        assert state.kept_answers <= LIMITS.max_answers

    @invariant()
    def those_who_left_hear_nothing(self):
        assert not self.left & self.desk.heard.keys()

    def teardown(self):
        """With a working engine and time, everybody who stayed has heard something, and the state is empty."""
        for batch in self.out:
            self.desk.state.close(batch, by_name(batch))
        for _ in range(20):
            self.desk.score(30)
        assert all(waiter in self.desk.heard or waiter in self.left for waiter in self.joined)
        state = self.desk.state
        assert (state.waiting_groups, state.waiting_members, state.waiting_tokens) == (0, 0, 0)
        assert (state.kept_answers, state.next_event) == (0, None)


TestCallers = Callers.TestCase
TestCallers.settings = settings(max_examples=examples(150), stateful_step_count=40, deadline=None)
