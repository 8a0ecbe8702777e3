"""Change a room's code in small ways, one at a time, and show which changes no test notices.

    python -m tests.mutants service/opera_service/groups tests/service/groups --sample 40 --seed 0

Changes come from cosmic-ray. They are made in a copy of the sources: the working tree stays as it is. Places are
drawn at random, one change each: a sum has a dozen changes and a flag has one, but both are one place. Left
out is what nothing can notice: annotations, and identity for equality. Exits with 1 where changes survive.
"""

import argparse
import ast
import difflib
import importlib
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from cosmic_ray.commands.init import _all_work_items as changes_of
from cosmic_ray.mutating import use_mutation
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_item import MutationSpec

SOURCES = ("service", "client", "cli", "demo", "rollout", "trainer", "trainer_adapters")
SAME = ("Is_Eq", "Eq_Is", "IsNot_NotEq", "NotEq_IsNot")
"""Operators that replace a comparison by one that differs for odd classes only."""

EXPENSIVE = ("fastapi", "httpx", "hypothesis", "msgspec", "numpy", "pydantic", "pytest_asyncio")
"""What most tests import of others."""

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


def prepare(copy: Path) -> None:
    """Copy the sources and have children import the copy; what costs each of them time is imported here."""
    for name in SOURCES:
        shutil.copytree(name, copy / name)
    found = [str(copy / name) for name in SOURCES]
    sys.path[:0] = found
    os.environ["PYTHONPATH"] = os.pathsep.join([*found, *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.dont_write_bytecode = True
    for name in EXPENSIVE:
        importlib.import_module(name)


def run(tests: Sequence[str], limit_s: float) -> int | None:
    """Run the tests in a child and return pytest's exit status; None if it was stopped."""
    child = os.fork()
    if child == 0:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        os._exit(pytest.main(["-q", "-x", "-p", "no:cacheprovider", *tests]))
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def main() -> None:
    """Draw places, change each once, run the tests, and print what survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("code", type=Path, help="a file or a folder of the sources")
    parser.add_argument("tests", nargs="+", help="the tests that are to notice; each change runs them once")
    parser.add_argument("--sample", type=int, default=40, help="places to change (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="another one draws other places (default: %(default)s)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        prepare(copy)
        began = time.monotonic()
        if run(options.tests, math.inf) != 0:
            sys.exit("the tests fail without any change")
        limit_s = 30 + 6 * (time.monotonic() - began)
        code = copy / options.code
        files = sorted(code.rglob("*.py")) if code.is_dir() else [code]
        everywhere = [place for path in files for place in places(path)]
        dice = random.Random(options.seed)
        drawn = [dice.choice(place) for place in dice.sample(everywhere, min(options.sample, len(everywhere)))]
        survived = stopped = 0
        for number, change in enumerate(drawn, 1):
            print(f"{number}/{len(drawn)}", file=sys.stderr)
            operator = get_operator(change.operator_name)(**change.operator_args)
            with use_mutation(change.module_path, operator, change.occurrence) as (before, after):
                status = run(options.tests, limit_s)
            survived += status == 0
            stopped += status is None
            if status == 0:
                name = change.module_path.relative_to(copy)
                lines = (before.splitlines(), after.splitlines())
                print(*difflib.unified_diff(*lines, str(name), f"change {number}", n=2, lineterm=""), sep="\n")
    print(f"{survived} of {len(drawn)} changes survived, of {len(everywhere)} places (seed {options.seed})")
    print(f"{stopped} of the others were stopped after {limit_s:.0f} s")
    sys.exit(bool(survived))


if __name__ == "__main__":
    main()
