"""No file of ours is longer than what one reads in one go."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST_LINES = 350
CODE = ("*.py", "*.ts", "*.tsx", "*.css", "*.sh")


def test_no_file_has_more_than_350_lines():
    try:
        asked = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "--", *CODE]
        listed = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split("\n")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no checkout")
    files = [ROOT / name for name in listed if name and (ROOT / name).is_file()]
    assert len(files) > 100
    lengths = {str(file.relative_to(ROOT)): file.read_bytes().count(b"\n") for file in files}
    too_long = {name: lines for name, lines in lengths.items() if lines > MOST_LINES}
    assert not too_long, f"split along nouns: {too_long}"
