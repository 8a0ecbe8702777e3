"""The verdict: one word for what the reward and the judges did."""

import pytest

from opera_trainer.artefacts import Estimate
from opera_trainer.judges.verdict import WORDS, verdict, way

UP = Estimate(value=0.2, low=0.1, high=0.3, count=9)
DOWN = Estimate(value=-0.2, low=-0.3, high=-0.1, count=9)
FLAT = Estimate(value=0.1, low=-0.1, high=0.3, count=9)


def test_an_interval_around_zero_is_flat():
    assert [way(one) for one in (UP, DOWN, FLAT, None)] == ["up", "down", "flat", None]


@pytest.mark.parametrize(
    ("reward", "judges", "expected"),
    [
        (UP, [UP, UP, FLAT], "learned"),
        (FLAT, [UP, FLAT], "learned"),
        (UP, [FLAT, FLAT, FLAT], "reward only"),
        (UP, [DOWN, FLAT], "reward only"),
        (UP, [UP, FLAT, FLAT], "reward only"),
        (FLAT, [UP, FLAT, FLAT], "mixed"),
        (UP, [UP, DOWN], "mixed"),
        (FLAT, [DOWN, FLAT], "worse"),
        (DOWN, [DOWN], "worse"),
        (FLAT, [FLAT], "nothing"),
        (DOWN, [FLAT, None], "nothing"),
        (UP, [None], "not judged"),
        (None, [UP], "learned"),
    ],
)
def test_verdicts(reward, judges, expected):
    found = verdict(reward, {str(at): one for at, one in enumerate(judges)})
    assert found == expected
    assert WORDS[found]
