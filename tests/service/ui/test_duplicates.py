"""Near-duplicates: found whatever surrounds them, and by exact similarity."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.service.ui.conftest import Keep, entry, member

from opera_service.ui.duplicates import LEAST, nearest
from opera_service.ui.queries import Filter


def text_of(seed: int, words: int = 80) -> str:
    dice = random.Random(seed)
    return " ".join(f"w{dice.randint(0, 5000)}" for _ in range(words))


def test_pairs_are_found_and_the_nearest_come_first():
    texts = [text_of(seed) for seed in range(200)]
    changed = texts[5].split()
    changed[40] = "other"
    found = nearest([*texts, texts[3], " ".join(changed)])
    assert [(one, other) for one, other, _ in found] == [(3, 200), (200, 3), (5, 201), (201, 5)]
    assert found[0][2] == 1.0
    assert 0.85 < found[2][2] < 1.0


def test_chinese_is_cut_into_characters():
    texts = [
        "答案是四十二，因为六乘以七等于四十二。",
        "答案是四十二，因为六乘以七等于四十二！",
        "完全不同的一句话，说的是天气。",
    ]
    assert [(one, other) for one, other, _ in nearest(texts)] == [(0, 1), (1, 0)]


def test_nothing_is_like_nothing():
    assert nearest([]) == []
    assert nearest(["", "", "…", "…"]) == []


@given(st.lists(st.text(alphabet="abc ", max_size=40), max_size=12))
@settings(max_examples=60, deadline=None)
def test_a_twin_is_another_text_and_as_similar_as_it_says(texts: list[str]):
    for one, other, similarity in nearest(texts):
        assert one != other
        assert LEAST <= similarity <= 1.0
        if texts[one].split() == texts[other].split():
            assert similarity == 1.0


def test_the_list_names_the_twin(keep: Keep):
    same = "the same words in the same order again and again"
    page = keep(
        entry("g1", member("a", text=same), member("b", text="something else entirely, with nothing in common")),
        entry("g2", member("c", text=same)),
    )
    rows = page.trajectories(Filter(question="duplicates"), 0, 10)["rows"]
    assert {(row["id"], row["twin"]["id"]) for row in rows} == {("a", "c"), ("c", "a")}
    assert rows[0]["twin"]["similarity"] == 1.0
