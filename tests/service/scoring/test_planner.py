"""Independent queries on few trees: what they share is fed once, and every query is found again."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from opera_service.scoring.planner import Planner
from opera_service.scoring.tree import as_ids

ids = st.lists(st.integers(0, 3), min_size=1, max_size=6)


def test_neighbours_share_their_context():
    planner = Planner(100)
    places = [planner.add(as_ids([1, 2, 3]), as_ids(target)) for target in ([7, 8], [7, 9], [5])]
    (tree,) = planner.build()
    assert [place.tree for place in places] == [0, 0, 0]
    assert tree.num_tokens == 4  # 1 2 3, and the 7 that two targets feed


def test_a_full_tree_ends_and_the_next_begins():
    planner = Planner(4)
    places = [planner.add(as_ids([start, 1, 1]), as_ids([2])) for start in (5, 6, 7)]
    assert [place.tree for place in places] == [0, 0, 1]
    assert [tree.num_tokens for tree in planner.build()] == [6, 3]


def test_a_query_over_the_budget_is_planned_all_the_same():
    planner = Planner(1)
    planner.add(as_ids([1, 2, 3]), as_ids([4]))
    planner.add(as_ids([1, 2, 3]), as_ids([5]))
    assert [tree.num_tokens for tree in planner.build()] == [3, 3]


def test_nothing_planned_is_no_tree():
    assert Planner(10).build() == []


def test_wishes_reach_every_tree():
    planner = Planner(1)
    for token in (1, 2):
        planner.add(as_ids([token]), as_ids([3]))
    assert [(tree.want_entropy, tree.want_top) for tree in planner.build()] == [(False, 0)] * 2
    trees = planner.build(want_entropy=True, want_top=2)
    assert [(tree.want_entropy, tree.want_top) for tree in trees] == [(True, 2)] * 2


@given(st.lists(st.tuples(ids, ids), min_size=1, max_size=12), st.integers(1, 12))
def test_every_query_is_found_where_its_place_says(pairs: list[tuple[list[int], list[int]]], budget: int):
    planner = Planner(budget)
    places = [planner.add(as_ids(context), as_ids(target)) for context, target in pairs]
    trees = planner.build()
    for (context, target), place in zip(pairs, places, strict=True):
        path, length = trees[place.tree].query_context(place.query)
        assert length == len(context)
        assert np.array_equal(path, [*context, *target])
