"""What the index counts, against counting anew."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opera_service.groups.group import Group
from opera_service.groups.lru_index import LruIndex

from .conftest import of_run

moves = st.tuples(
    st.sampled_from(["put", "remove", "touch", "remove_oldest"]),
    st.sampled_from("abcd"), st.sampled_from("rs"), st.sampled_from("xy"), st.integers(1, 5), st.integers(0, 9),
)  # fmt: skip


def group(name: str, run: str = "r", sender: str = "x") -> Group[str, str]:
    key = of_run(run, "m", name).key
    return Group(key, size=2, on_timeout="partial", shared={}, touched=0.0, sender=sender)


@given(st.lists(moves, max_size=20))
def test_room_is_what_the_groups_in_it_take(done: list[tuple[str, str, str, str, int, int]]):
    index: LruIndex[str, str] = LruIndex()
    held: list[tuple[Group[str, str], int, int]] = []
    for now, (move, name, run, sender, members, tokens) in enumerate(done):
        one = group(name, run, sender)
        there = next((entry for entry in held if entry[0].key == one.key), None)
        if move == "put":
            held = [entry for entry in held if entry is not there] + [(one, members, tokens)]
            index.put(one, members, tokens, now)
        elif move == "remove":
            held = [entry for entry in held if entry is not there]
            index.remove(one.key)
        elif move == "touch" and there is not None:
            held = [entry for entry in held if entry is not there] + [there]
            index.touch(there[0], now)
        elif move == "remove_oldest" and held:
            held = held[1:]
            index.remove_oldest()

        def room(entries: list[tuple[Group[str, str], int, int]]) -> tuple[int, int, int]:
            return len(entries), sum(entry[1] for entry in entries), sum(entry[2] for entry in entries)

        assert list(index) == [entry[0] for entry in held]
        assert index.oldest is (held[0][0] if held else None)
        assert (len(index), index.members, index.tokens) == room(held)
        assert index.without(one.key) == room([entry for entry in held if entry[0].key != one.key])
        ours = [entry for entry in held if entry[0].sender == sender]
        assert index.of_sender(one) == room(ours)
        of_this_run = [entry for entry in ours if entry[0].key.run_id == run]
        assert index.of_run(one) == room(of_this_run)
        if of_this_run:
            assert index.oldest_of_run(one) is of_this_run[0][0]


def test_what_is_not_there():
    index: LruIndex[str, str] = LruIndex()
    assert index.get(group("a").key) is None
    assert index.of_run(group("a")) == index.of_sender(group("a")) == index.without(group("a").key) == (0, 0, 0)
    with pytest.raises(StopIteration):
        index.oldest_of_run(group("a"))
