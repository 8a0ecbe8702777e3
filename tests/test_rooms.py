"""The house as docs/architecture.md shows it: where things are, and not too many rooms."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
SERVICE = ROOT / "service" / "opera_service"
MOST_ROOMS = 20


def rooms() -> set[str]:
    return {path.parent.name for path in SERVICE.glob("*/__init__.py")}


def test_what_one_looks_for_is_where_the_page_says():
    table = PAGE.split("| you look for | it is in |")[1].split("\n\n")[0]
    places = [line.split("|")[2] for line in table.splitlines() if line.count("|") > 2]
    named = re.findall(r"`([^`]+)`", "".join(places))
    assert len(named) >= 8
    assert [name for name in named if not (SERVICE / name).exists() and not (ROOT / name).exists()] == []


def test_every_room_is_on_the_page_and_there_are_few():
    assert len(rooms()) <= MOST_ROOMS
    drawn = PAGE.split("service/opera_service\n")[1].split("```")[0]
    assert set(re.findall(r"^   (\w+)/", drawn, re.MULTILINE)) == rooms()
