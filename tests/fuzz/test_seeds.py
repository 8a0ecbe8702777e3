"""Every seed, every input that fuzzing ever found, and some mutations of them keep the promises of the targets."""

import random
from pathlib import Path

import pytest
from tests.fuzz.targets import SEEDS

FOUND = Path(__file__).parent / "found"
CASES = [(target, data) for target, seeds in SEEDS.items() for data in seeds]
CASES += [(target, path.read_bytes()) for target in SEEDS for path in sorted((FOUND / target.__name__).glob("*"))]


@pytest.mark.parametrize(("target", "data"), CASES, ids=[target.__name__ for target, _ in CASES])
def test_it_keeps_its_promises(target, data):
    target(data)
    dice = random.Random(len(data))
    for _ in range(40):
        mutated = bytearray(data)
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(mutated) + 1)
            mutated[at : at + dice.randint(0, 3)] = dice.randbytes(dice.randint(0, 3))
        target(bytes(mutated))
