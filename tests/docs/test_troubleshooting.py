"""Symptoms on the page of troubleshooting are what the service says: its flags and codes exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_flag_and_code_is_one_that_exists():
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8").split("## Starting")[0]
    symptoms = [line.split("|")[1] for line in page.splitlines() if line.startswith("| ")]
    named = {name for cell in symptoms for name in re.findall(r"`([a-z_]+)`", cell)} - {"field"}
    code = "".join(
        file.read_text(encoding="utf-8") for room in ("service", "client") for file in (ROOT / room).rglob("*.py")
    )
    assert len(named) > 10
    assert {name for name in named if f'"{name}"' not in code} == set()
