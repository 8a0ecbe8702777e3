"""The blind page: nobody can tell the sides, and votes come back to the right answer."""

import json
import re

import pytest

from opera_client.errors import BadInput
from opera_trainer.judges import blind
from opera_trainer.judges.llm import Pair

PAIRS = [Pair(f"t{n}", f"Question {n} <b>?", f"old {n}", f"new {n} <script>") for n in range(40)]


def sections(path):
    page = path.read_text()
    return re.findall(r"<section data-task='(.*?)' data-key='(\d)'>(.*?)</section>", page, re.S)


def test_sides_are_drawn_evenly_and_the_same_again(tmp_path):
    for name in ("one.html", "two.html"):
        blind.write(tmp_path / name, PAIRS, 3)
    found = sections(tmp_path / "one.html")
    assert found == sections(tmp_path / "two.html")
    assert len(found) == 40
    assert 10 <= sum(int(key) for _, key, _ in found) <= 30
    assert "<script>" not in "".join(body for _, _, body in found)
    assert "grpo" not in (tmp_path / "one.html").read_text()


def test_a_vote_for_a_side_is_a_vote_for_the_answer_there(tmp_path):
    blind.write(tmp_path / "page.html", PAIRS, 3)
    votes = []
    for task, key, body in sections(tmp_path / "page.html"):
        left = re.search(r"class='answer'>(\w+)", body)[1]
        votes.append({"task": task, "key": int(key), "choice": "left" if left == "new" else "right"})
    (tmp_path / "votes").mkdir()
    (tmp_path / "votes" / "me.json").write_text(json.dumps({"votes": votes}))
    found = blind.votes(tmp_path / "votes")
    assert found == {pair.task_id: [1] for pair in PAIRS}
    share = blind.share_of(blind.means(found), 100)
    assert share.value == 1.0
    assert share.low < 1.0  # 40 votes are not certainty


def test_people_agree_where_they_say_the_same():
    votes = {"a": [1, 1, 0], "b": [-1, -1], "c": [1]}
    assert blind.agreement(votes) == pytest.approx(2 / 4)
    assert blind.agreement({"c": [1]}) is None
    assert blind.share_of(blind.means(votes), 100).value == pytest.approx((5 / 6 + 0 + 1) / 3)


def test_no_folder_is_no_vote_and_a_foreign_file_is_named(tmp_path):
    assert blind.votes(tmp_path / "votes") == {}
    (tmp_path / "votes").mkdir()
    (tmp_path / "votes" / "x.json").write_text('{"votes": [{"task": "a"}]}')
    with pytest.raises(BadInput, match=r"x\.json is no file of votes"):
        blind.votes(tmp_path / "votes")
