"""Lists against a plain loop over the same trajectories, and the questions on groups made for them."""

import random

import pytest
from tests.service.ui.conftest import Keep, entry, member

from opera_client.errors import NotFound
from opera_service.ui.queries import Filter

FLAGS = ["format_gate", "repetition", "empty_reflection"]


@pytest.fixture(scope="module")
def world() -> list:
    dice = random.Random(7)
    entries = []
    for at in range(60):
        members = [
            member(
                name,
                None if dice.random() < 0.1 else round(dice.uniform(-1, 2), 3),
                tokens=dice.randint(5, 90),
                flags=[flag for flag in FLAGS if dice.random() < 0.2],
                text=f"<think>word{dice.randint(0, 9)} 100%_sure</think>{name}",
            )
            for name in "abcd"
        ]
        entries.append(entry(f"g{at}", *members, run=dice.choice(["one", "two", None]), step=at // 6))
    return entries


def matching(world, take) -> list[tuple[str, str]]:
    return [(group.group_id, one.id) for group in reversed(world) for one in group.members if take(group, one)]


def between(low, value, high) -> bool:
    return value is not None and low <= value <= high


@pytest.mark.parametrize(
    ("asked", "take"),
    [
        (Filter(), lambda group, one: True),
        (Filter(run="one"), lambda group, one: group.run_id == "one"),
        (Filter(run="unnamed"), lambda group, one: group.run_id is None),
        (Filter(run="nobody"), lambda group, one: False),
        (Filter(first_step=3, last_step=5), lambda group, one: 3 <= group.step <= 5),
        (Filter(flag="repetition"), lambda group, one: "repetition" in one.flags),
        (Filter(reward_min=0.5, reward_max=1.0), lambda group, one: between(0.5, one.reward, 1.0)),
        (Filter(text="WORD3"), lambda group, one: "word3" in one.response.text),
        (Filter(text="100%_"), lambda group, one: True),
        (Filter(text="word_"), lambda group, one: False),
        (Filter(run="two", flag="format_gate", text="word1"),
         lambda group, one: group.run_id == "two" and "format_gate" in one.flags and "word1" in one.response.text),
    ],
)  # fmt: skip
def test_a_filter_finds_what_a_loop_finds(keep: Keep, world, asked: Filter, take):
    page = keep(*world)
    expected = matching(world, take)
    answer = page.trajectories(asked, 0, 500)
    assert [(row["group_id"], row["id"]) for row in answer["rows"]] == expected
    assert answer["total"] == len(expected)
    pages = [page.trajectories(asked, offset, 7)["rows"] for offset in range(0, len(expected) + 7, 7)]
    assert [(row["group_id"], row["id"]) for rows in pages for row in rows] == expected
    by_group = page.groups(asked, 0, 500)
    assert [row["group_id"] for row in by_group["rows"]] == list(dict.fromkeys(group for group, _ in expected))
    assert by_group["total"] == len(by_group["rows"])


@pytest.mark.parametrize("sort", ["reward", "tokens", "level", "components.relative"])
@pytest.mark.parametrize("descending", [True, False])
def test_an_order_is_an_order_and_what_has_no_number_comes_last(keep: Keep, world, sort: str, descending: bool):
    rows = keep(*world).trajectories(Filter(sort=sort, descending=descending), 0, 500)["rows"]
    numbers = [
        row["components"].get("relative") if "." in sort else row["tokens"] if sort == "tokens" else row["reward"]
        for row in rows
    ]
    known = [number for number in numbers if number is not None]
    assert len(rows) == 240
    assert numbers[: len(known)] == known
    if sort != "level":  # all the same here
        assert known == sorted(known, reverse=descending)


def test_what_can_be_chosen_is_counted_over_all_that_match(keep: Keep, world):
    answer = keep(*world).trajectories(Filter(run="one", reward_min=1.0), 0, 1)
    rewards = [
        one.reward for group in world if group.run_id == "one" for one in group.members if one.reward is not None
    ]
    assert sum(answer["histogram"]["counts"]) == len(rewards)  # but for the range, which is chosen on it
    assert (answer["histogram"]["low"], answer["histogram"]["high"]) == (min(rewards), max(rewards))
    found = [one for group in world if group.run_id == "one" for one in group.members if (one.reward or -1) >= 1]
    assert answer["flags"] == {flag: count for flag in FLAGS if (count := sum(flag in one.flags for one in found))}
    assert answer["components"] == ["relative", "reflection"]


def test_one_reward_has_a_histogram_and_none_has_none(keep: Keep):
    one = keep(entry("a", member("1", 0.5))).trajectories(Filter(), 0, 1)["histogram"]
    assert (one["low"], one["high"], sum(one["counts"])) == (0.0, 1.0, 1)
    assert keep(entry("a", member("1", None))).trajectories(Filter(), 0, 1)["histogram"] is None


def test_paid_but_equal(keep: Keep):
    page = keep(
        entry("equal", member("1", 0.5), member("2", 0.5)),
        entry("equal and unpaid", member("1", 0.0), member("2", 0.0)),
        entry("apart", member("1", 0.5), member("2", 0.6)),
        entry("alone", member("1", 0.5)),
    )
    rows = page.trajectories(Filter(question="equal"), 0, 10)["rows"]
    assert {row["group_id"] for row in rows} == {"equal"}


def test_reward_up_length_up(keep: Keep):
    def group(name: str, *pairs: tuple[float, int]):
        return entry(name, *(member(str(at), reward, tokens=tokens) for at, (reward, tokens) in enumerate(pairs)))

    page = keep(
        group("longer is better", (0.1, 10), (0.2, 20), (0.9, 80)),
        group("longest of all", (0.1, 10), (0.2, 20), (0.9, 200)),
        group("longer is worse", (0.9, 10), (0.2, 20), (0.1, 80)),
        group("one exception", (0.1, 10), (0.9, 20), (0.8, 80)),
        group("no longer", (0.1, 10), (0.2, 10), (0.9, 11)),
        group("only two", (0.1, 10), (0.2, 20)),
    )
    rows = page.trajectories(Filter(question="longer_is_better"), 0, 10)["rows"]
    assert list(dict.fromkeys(row["group_id"] for row in rows)) == ["longest of all", "longer is better"]
    assert (rows[0]["id"], rows[0]["tokens"]) == ("2", 200)


def test_what_earns_most_and_why(keep: Keep):
    page = keep(
        entry(
            "g",
            member("plain", 0.5, components={"relative": 0.5, "reflection": 0.0}),
            member("hack", 1.0, components={"relative": 0.5, "reflection": 1.0}),
        )
    )
    first, second = page.trajectories(Filter(question="earns_most"), 0, 10)["rows"]
    assert (first["id"], first["rank"], second["rank"]) == ("hack", 1, 2)


def test_a_group_is_whole_and_knows_its_neighbours(keep: Keep):
    page = keep(
        *(entry(name, member("1"), run=run) for name, run in (("a", "x"), ("b", "y"), ("c", "x"), ("d", "x")))
    )
    detail = page.group(3)
    assert (detail["group_id"], detail["previous"], detail["next"]) == ("c", 1, 4)
    assert (detail["prompt"], detail["references"], detail["diagnostics"]) == (
        "why?",
        ["because"],
        {"margin": 0.1},
    )
    assert detail["members"][0]["segments"][0]["text"] == "thought"
    assert detail["members"][0]["response"] == "<think>thought of 1</think>answer of 1"
    with pytest.raises(NotFound, match="group 99 is not kept"):
        page.group(99)
