"""What the README counts is what there is."""

import re
from pathlib import Path

from opera_service.rewards.registry import rewards

ROOT = Path(__file__).parents[2]
NUMBERS = {"five": 5, "six": 6, "seven": 7, "eight": 8, "thirty": 30} | {
    f"twenty-{word}" if word else "twenty": 20 + at
    for at, word in enumerate(("", *["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]))
}


def test_the_readme_counts_the_relatives_and_their_families():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    said = re.findall(r"and ([a-z-]+) relatives", readme)
    relatives = rewards().keys() - {"opera", "sum"}
    assert len(said) == 2
    assert {NUMBERS[one] for one in said} == {len(relatives)}
    families = re.findall(r"^\| \[[^]]+\]\(rewards/", (ROOT / "docs/rewards.md").read_text(encoding="utf-8"), re.M)
    (counted,) = re.findall(r"relatives in ([a-z-]+) families", readme)
    assert NUMBERS[counted] == len(families) - 1  # OPERA's own


def test_the_page_of_rewards_lists_every_one():
    table = (ROOT / "docs/rewards.md").read_text(encoding="utf-8").partition("| family |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([a-z_]+)`", table)) >= rewards().keys()
