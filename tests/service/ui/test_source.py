"""Memory stays within its bound and drops the oldest first; curves outlive what they were added up from."""

import pytest
from tests.service.ui.conftest import Keep, entry, member

from opera_service.ui.queries import Filter
from opera_service.ui.source import Memory


def test_memory_stays_within_its_bound(keep: Keep):
    limit = 2 * 2**20
    page = keep(
        *(entry(str(at), member("1", text="x" * 20_000), run="ab"[at % 2], step=at) for at in range(400)),
        limit_bytes=limit,
    )
    overview = page.overview()
    storage = overview["storage"]
    assert storage["bytes"] <= limit
    assert 40 < storage["groups"] < 400
    assert storage["groups"] + storage["dropped_groups"] == 400
    steps = [row["step"] for row in page.groups(Filter(), 0, 500)["rows"]]
    assert steps == list(range(399, 399 - len(steps), -1))
    by_run = {one["run"]: one for one in overview["runs"]}
    assert {name: one["groups"] for name, one in by_run.items()} == {"a": 200, "b": 200}
    assert sum(one["completeness"]["dropped"] for one in by_run.values()) == storage["dropped_groups"]
    assert len(page.series("a")["points"]) == 200


def test_memory_is_flat_once_it_is_full():
    memory = Memory(2**20)
    taken = []
    for at in range(600):
        memory.write([entry(str(at), member("1", text="y" * 5_000))])
        taken.append(memory.bytes())
    assert max(taken) <= 2**20
    assert max(taken[-100:]) <= max(taken[200:300]) * 1.05


def test_a_group_that_is_larger_than_all_of_memory_pushes_the_others_out_and_is_kept_until_the_next():
    memory = Memory(2**17)
    memory.write([entry("small", member("1"))])
    memory.write([entry("huge", member("1", text="z" * 2**18))])
    memory.write([entry("after", member("1"))])
    with memory.connection() as connection:
        assert [row[0] for row in connection.execute("SELECT group_id FROM groups")] == ["after"]


@pytest.mark.parametrize("count", [0, 1])
def test_little_is_no_trouble(keep: Keep, count: int):
    page = keep(*(entry(str(at), member("1")) for at in range(count)))
    assert len(page.overview()["runs"]) == count
    assert page.series("nobody") == {"run": "nobody", "by": "arrival", "points": []}


def test_what_nobody_looked_at_is_in_the_curves_all_the_same(keep: Keep):
    """Groups are added up when somebody asks, and before they make room for others."""
    page = keep(*(entry(str(at), member("1", text="x" * 20_000), step=at) for at in range(90)), limit_bytes=2**20)
    (run,) = page.overview()["runs"]
    assert page.overview()["storage"]["dropped_groups"] > 20
    assert (run["groups"], run["completeness"]["whole"]) == (90, 90)
    assert [point["x"] for point in page.series("run")["points"]] == list(range(90))
