"""The plot page: one file that needs nothing else and says what the answer says."""

import json
import re

import pytest

from opera_client.plot import write_page
from opera_client.plot.page import page
from opera_client.wire import Group, GroupResult

NASTY = "</script><script>alert(1)</script> & <b>\u2028é"


def scored(**more):
    segment = {"index": 0, "start": 0, "end": 4, "text": NASTY + "\n\n", "reflective": True, "mean_logprob": -1.5,
               "gain": 0.5, "credited": True}  # fmt: skip
    ok = {"id": "a", "status": "ok", "reward": 0.25, "components": {"relative": 1.0}, "mean_logprob": -1.0,
          "sum_logprob": -3.0, "perplexity": 2.718, "segments": [segment], "flags": ["odd"]}  # fmt: skip
    failed = {"id": "b", "status": "error", "error": {"code": "empty_response", "message": "no tokens"}}
    group = {"group_id": "g", "size": 2, "scored": 1, "initial_mean_logprob": -2.0, "reference_tokens": 3,
             "trajectories": [ok, failed]}  # fmt: skip
    return GroupResult.model_validate(group | more)


ASKED = Group.model_validate(
    {"prompt": [{"role": "user", "content": NASTY}], "reference": "R",
     "trajectories": [{"response": "<think>x</think> the answer"}, {"response_token_ids": [1]}]}
)  # fmt: skip


def data_of(text):
    found = re.search(r'data-draw="groups">.*?<script type="application/json">(.*?)</script>', text, re.S)
    return json.loads(found.group(1))


def test_the_page_holds_every_number_and_text_of_the_answer():
    found = data_of(page([scored()], [ASKED], total=7))
    assert found["total"] == 7
    [group] = found["groups"]
    assert group["prompt"] == [{"role": "user", "content": NASTY}]
    assert (group["references"], group["initial_mean_logprob"], group["scored"]) == (["R"], -2.0, 1)
    first, second = group["members"]
    assert (first["reward"], first["components"], first["mean_logprob"]) == (0.25, {"relative": 1.0}, -1.0)
    assert first["response"] == "<think>x</think> the answer"
    assert first["flags"] == ["odd"]
    assert first["segments"] == [
        {
            "index": 0, "start": 0, "end": 4, "text": NASTY + "\n\n", "reflective": True, "mean_logprob": -1.5,
            "gain": 0.5, "credited": True,
        }
    ]  # fmt: skip
    assert (second["reward"], second["error"]) == (None, {"code": "empty_response", "message": "no tokens"})
    assert second["response_token_ids"] == [1]


def test_nobodys_text_becomes_markup_and_nothing_is_loaded_from_elsewhere():
    run = {"reward": "opera", "preset": "hardened", "config": {"a": "<i>"}, "model": {"name": "<m>"}}
    text = page([scored()], [ASKED], run=run)
    assert text.count("</script>") == 2
    assert "preset hardened · a=&lt;i&gt; · model &lt;m&gt;" in text
    assert "<i>" not in text
    assert "{{" not in text.partition("<script>")[0]
    assert not re.search(r"<(script|link|img|iframe)[^>]*\s(src|href)\s*=", text.partition("<script>")[0])
    assert len(text) < 100_000


def test_results_alone_are_enough(tmp_path):
    write_page(tmp_path / "page.html", [scored(), scored(group_id="h", initial_mean_logprob=None)])
    found = data_of((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert [g["group_id"] for g in found["groups"]] == ["g", "h"]
    assert found["total"] == 2


def test_results_and_questions_must_belong_together():
    with pytest.raises(ValueError, match="zip"):
        page([scored()], [])
