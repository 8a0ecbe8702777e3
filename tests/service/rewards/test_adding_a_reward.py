"""A reward is one file, a heading on a page and a name in the index; no other code has to be told."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from opera_service.rewards.registry import describe, rewards

DOCS = Path(__file__).parents[3] / "docs"
INDEX = DOCS / "rewards.md"
PAGES = sorted((DOCS / "rewards").glob("*.md"))

NEW = """
from opera_service.rewards.answer_counts import CountConfig, CountReward


class Alone(CountReward[CountConfig]):
    name = "alone"
    summary = "1 for an answer that nobody else gave."
    source = "a test"
    needs = ("group",)
    equation = "r_i = 1 if n_c(i) = 1"
    unsettled = ("everything",)
    presets = {"hardened": CountConfig(), "paper": CountConfig(equality="text")}

    def values(self, counts):
        return (counts.shares * counts.size == 1).astype(float), ()
"""

ASK = """
import json, sys
from opera_service.rewards import catalog
catalog.__path__.append(sys.argv[1])
from opera_client import RewardClient
answers = [{"response": f"<think>so\\n\\n</think>{one}"} for one in ("7", "8", "8")]
with RewardClient.in_process(engine="dummy") as client:
    group = {"prompt": "Which?", "trajectories": answers}
    (listed,) = (one for one in client.rewards().rewards if one.name == "alone")
    alone = client.reward([group], reward="alone")
    summed = client.reward([group], rewards=[{"name": "alone", "weight": 3}, {"name": "rent", "weight": 0}])
print(json.dumps([listed.model_dump(), alone.rewards, summed.rewards, alone.usage.tokens_computed]))
"""


def test_one_file_is_listed_answered_and_summed(tmp_path):
    (tmp_path / "alone.py").write_text(NEW)
    done = subprocess.run([sys.executable, "-c", ASK, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    listed, alone, summed, tokens = json.loads(done.stdout)
    assert (listed["equation"], listed["unsettled"], listed["needs"]) == (
        "r_i = 1 if n_c(i) = 1", ["everything"], ["group"],
    )  # fmt: skip
    assert alone == [[1, 0, 0]]
    assert summed == [[3, 0, 0]]
    assert tokens == 0


@pytest.mark.parametrize("name", sorted(set(rewards()) - {"sum"}))
def test_every_reward_has_a_heading_on_a_familys_page_and_a_place_in_the_index(name):
    headings = [
        line for page in PAGES for line in page.read_text(encoding="utf-8").splitlines() if line[:1] == "#"
    ]
    assert any(f"`{name}`" in line for line in headings), f"describe `{name}` on a page below docs/rewards/"
    assert f"`{name}`" in INDEX.read_text(encoding="utf-8"), f"name `{name}` in the table of docs/rewards.md"


@pytest.mark.parametrize("info", describe(), ids=lambda info: info.name)
def test_every_reward_says_what_it_computes_and_where_that_is_from(info):
    assert info.equation
    assert info.source
    assert all(one.endswith(".") for one in info.unsettled)
