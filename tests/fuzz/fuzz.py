"""Fuzz one target, or all in turn, with libFuzzer (atheris), guided by the branches of our own code.

    python -m tests.fuzz.fuzz [TARGET] --seconds 25

What breaks a promise is written to `tests/fuzz/found/TARGET/`, where `test_seeds.py` finds it: mend the code and
commit both. Exits with 1 then.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import atheris

FOUND = Path(__file__).parent / "found"
OURS = ["opera_cli", "opera_client", "opera_service"]
TARGETS = ("body", "thought", "weights", "checkpoint", "jsonl", "parquet")


def fuzz(name: str, seconds: int) -> None:
    """Never returns: libFuzzer ends the process."""
    with atheris.instrument_imports(include=OURS):
        from tests.fuzz import targets
    target = getattr(targets, name)
    (FOUND / name).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(targets.SEEDS[target]):
            Path(corpus, str(number)).write_bytes(seed)
        flags = [
            f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=3000", "-max_len=8192",
            f"-artifact_prefix={FOUND / name}/",
        ]  # fmt: skip
        atheris.Setup([sys.argv[0], *flags, corpus, str(FOUND / name)], target)
        atheris.Fuzz()


def main() -> None:
    """Fuzz in this process, or every target in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", nargs="?", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=25, help="for each target (default: %(default)s)")
    options = parser.parse_args()
    if options.target:
        fuzz(options.target, options.seconds)
    command = [sys.executable, "-m", "tests.fuzz.fuzz", "--seconds", str(options.seconds)]
    codes = [subprocess.run([*command, name], check=False).returncode for name in TARGETS]
    for path in FOUND.glob("*"):  # only what was found is kept
        if not any(path.iterdir()):
            path.rmdir()
    sys.exit(any(codes))


if __name__ == "__main__":
    main()
