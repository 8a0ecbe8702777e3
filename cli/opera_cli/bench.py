"""`opera-reward bench NAME`: run one of the repository's benchmarks.

They live in `benchmarks/` of a checkout, not in the wheel: numbers belong to a commit. It knows file names only.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import opera_service

NAMES = ("overload", "scoring", "serving")


def run(argv: list[str]) -> int:
    """Measure this machine: `bench scoring`, `bench serving` or `bench overload` (from a checkout)."""
    name = argv[0] if argv else ""
    if name not in NAMES:
        asked_for_help = name in {"", "-h", "--help"}
        print(f"usage: opera-reward bench {{{','.join(NAMES)}}} [OPTIONS]", file=sys.stderr)
        return 0 if asked_for_help else 2
    script = Path(opera_service.__file__).parents[2] / "benchmarks" / f"{name}.py"
    if not script.is_file():
        print(
            f"{script} is not there: benchmarks are part of the repository, run them from a checkout",
            file=sys.stderr,
        )
        return 2
    before = sys.argv, list(sys.path)
    sys.argv = [f"opera-reward bench {name}", *argv[1:]]
    sys.path.insert(0, str(script.parent))
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        sys.argv, sys.path[:] = before
    return 0
