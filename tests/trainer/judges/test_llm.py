"""The language model as judge: both orders, ties, and what a wrong address says."""

import asyncio
import json

import httpx
import pytest

from opera_client.errors import BadInput, Unavailable
from opera_trainer.judges.llm import Pair, opinions
from opera_trainer.settings.judging import LlmSettings

SETTINGS = LlmSettings(url="http://judge/v1/", model="m")
PAIR = Pair("t", "Say hello.", "bad", "good")


def asked(answer, pairs=(PAIR,)):
    seen = []

    def handle(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        question = body["messages"][0]["content"]
        seen.append((str(request.url), body, request.headers))
        return answer(question)

    return asyncio.run(opinions(SETTINGS, pairs, httpx.MockTransport(handle))), seen


def saying(choose):
    def answer(question):
        first = question.partition("Answer A:\n")[2].partition("\n")[0]
        return httpx.Response(200, json={"choices": [{"message": {"content": choose(first)}}]})

    return answer


def test_the_better_answer_wins_in_both_orders(monkeypatch):
    monkeypatch.setenv("OPERA_JUDGE_API_KEY", "secret")
    (one,), seen = asked(saying(lambda first: "A" if first == "good" else "B"))
    assert (one.preference, one.consistent) == (1, True)
    assert [url for url, _, _ in seen] == ["http://judge/v1/chat/completions"] * 2
    assert seen[0][1]["model"] == "m"
    assert seen[0][2]["authorization"] == "Bearer secret"
    (one,), _ = asked(saying(lambda first: "A" if first == "bad" else "B"))
    assert one.preference == -1


def test_a_judge_that_prefers_the_first_place_has_no_opinion():
    (one,), _ = asked(saying(lambda _: "A"))
    assert (one.preference, one.consistent) == (0, False)


@pytest.mark.parametrize("said", ["tie", "Both are fine.", ""])
def test_what_names_no_winner_is_a_tie(said):
    (one,), _ = asked(saying(lambda _: said))
    assert (one.preference, one.consistent) == (0, True)


def test_the_last_word_behind_a_thought_counts():
    (one,), _ = asked(saying(lambda first: "<think>A or B?</think> Verdict: " + ("A" if first == "good" else "B")))
    assert one.preference == 1


@pytest.mark.parametrize(
    ("response", "error", "what"),
    [
        (httpx.Response(401, text="no key"), BadInput, "401: no key"),
        (httpx.Response(503, text="busy"), Unavailable, "503: busy"),
        (httpx.Response(200, json={"choices": []}), BadInput, "OpenAI"),
        (httpx.Response(200, text="<html>"), BadInput, "OpenAI"),
    ],
)
def test_a_judge_that_cannot_be_asked_is_named(response, error, what):
    with pytest.raises(error, match=what):
        asked(lambda _: response)


def test_no_connection_is_unavailable():
    def refuse(_):
        raise httpx.ConnectError("refused")

    with pytest.raises(Unavailable, match="no answer from http://judge"):
        asked(refuse)
