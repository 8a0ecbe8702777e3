"""Change a room's code in small ways, one at a time, and show which changes no test notices.

    python -m tests.mutants service/opera_service/groups tests/service/groups --sample 40 --seed 0

Changes come from cosmic-ray. They are made in a copy of the sources: the working tree stays as it is. Places are
drawn at random, one change each: a sum has a dozen changes and a flag has one, but both are one place. Left
out is what nothing can notice: annotations, and identity for equality. Exits with 1 where changes survive.
"""

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from cosmic_ray.commands.init import _all_work_items as changes_of
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_item import MutationSpec, TestOutcome

SOURCES = ("service", "client", "cli", "demo", "rollout", "trainer", "trainer_adapters")
SAME = ("Is_Eq", "Eq_Is", "IsNot_NotEq", "NotEq_IsNot")
"""Operators that replace a comparison by one that differs for odd classes only."""

Span = tuple[tuple[int, int], tuple[int, int]]


def annotations(source: str) -> Iterator[Span]:
    """Yield where annotations begin and end; lines count from 1, columns from 0."""
    for node in ast.walk(ast.parse(source)):
        for one in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if one is not None:
                yield (one.lineno, one.col_offset), (one.end_lineno, one.end_col_offset)


def places(path: Path) -> list[list[MutationSpec]]:
    """Return the changes that could be noticed, place by place."""
    spans = list(annotations(path.read_text()))
    found: dict[Span, list[MutationSpec]] = defaultdict(list)
    for item in changes_of([path], {}):
        (change,) = item.mutations
        start = tuple(change.start_pos)
        if not change.operator_name.endswith(SAME) and not any(first <= start < last for first, last in spans):
            found[start, tuple(change.end_pos)].append(change)
    return list(found.values())


def environment(copy: Path) -> dict[str, str]:
    """Return the environment in which Python imports the copy."""
    before = [one for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one]
    return {"PYTHONPATH": os.pathsep.join([*(str(copy / name) for name in SOURCES), *before])}


def main() -> None:
    """Draw places, change each once, run the tests, and print what survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "code", type=Path, help="a file or a folder of the sources, e.g. service/opera_service/groups"
    )
    parser.add_argument("tests", nargs="+", help="the tests that are to notice; each change runs them once")
    parser.add_argument("--sample", type=int, default=40, help="places to change (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="another number draws other places (default: %(default)s)"
    )
    options = parser.parse_args()
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *options.tests]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in SOURCES:
            shutil.copytree(name, copy / name)
        os.environ |= environment(copy)
        began = time.monotonic()
        if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
            sys.exit("the tests fail without any change")
        limit = 30 + 6 * (time.monotonic() - began)
        code = copy / options.code
        files = sorted(code.rglob("*.py")) if code.is_dir() else [code]
        everywhere = [place for path in files for place in places(path)]
        dice = random.Random(options.seed)
        drawn = [dice.choice(place) for place in dice.sample(everywhere, min(options.sample, len(everywhere)))]
        survived = late = 0
        for number, change in enumerate(drawn, 1):
            result = mutate_and_test([change], " ".join(command), limit)
            late += result.output == "timeout"
            if result.test_outcome == TestOutcome.KILLED:
                continue
            survived += 1
            print(f"[{number}/{len(drawn)}] {result.test_outcome}\n{result.diff or result.output}", flush=True)
    print(f"{survived} of {len(drawn)} changes survived, of {len(everywhere)} places (seed {options.seed})")
    print(f"{late} of the others were stopped after {limit:.0f} s")
    sys.exit(bool(survived))


if __name__ == "__main__":
    main()
