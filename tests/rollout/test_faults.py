"""What the plug-in must survive: rollouts go on, and a score is right or missing, never wrong."""

from __future__ import annotations

import logging

import pytest
from tests.rollout.conftest import NATS, rollout, scoring

REFERENCE = 20


@pytest.fixture
def warnings(caplog, monkeypatch) -> pytest.LogCaptureFixture:
    """The plug-in's log, in which a warning has not been said yet."""
    monkeypatch.setattr("opera_vllm.scheduler._warned", set())
    monkeypatch.setattr(logging.getLogger("vllm"), "propagate", True)
    return caplog


@pytest.fixture
def asked(engine, prompt) -> list[tuple[list[int], int]]:
    """A response that is in the cache, and prompts that score a reference after parts of it."""
    start = prompt(50)
    ids = start + engine.roll_out(start, tokens=200, seed=50)
    return [(ids[:cut] + prompt(51)[:REFERENCE], cut) for cut in (128, 200, 290)]


@pytest.fixture
def greedy(engine, prompt) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts, and what the engine writes after them."""
    prompts = [prompt(number) for number in (52, 53)]
    return prompts, engine.run(prompts).responses


def broken(*_, **__):
    raise RuntimeError("injected")


def test_a_lookup_that_fails_is_done_without_the_cache(engine, oracle, asked, greedy, warnings, monkeypatch):
    cache = engine.scheduler._opera
    monkeypatch.setattr(cache, "_longest_hit", limited(cache))
    prompts, expected = greedy
    found = engine.run(prompts, asked)
    assert found.responses == expected
    assert max(map(oracle.error, found.scored)) < NATS
    assert [one.cached for one in found.scored] == [0, 0, 0]
    assert warnings.text.count("looking up a scored prompt failed") == 1


def limited(cache):
    """The scheduler's own search, which fails while a scored prompt is looked up."""
    search = cache._longest_hit

    def search_or_fail(*args):
        if cache._limit is not None:
            broken()
        return search(*args)

    return search_or_fail


def test_a_hit_beyond_the_first_row_is_not_used(engine, oracle, asked, warnings, monkeypatch):
    """As of a vLLM that no longer heeds the length it is given."""
    cache = engine.scheduler._opera
    search = cache._longest_hit
    monkeypatch.setattr(cache, "_longest_hit", lambda hashes, _: search(hashes, len(hashes) * 32))
    engine.score(asked)  # references in the cache, too
    asked = [(ids + ids[:100], start) for ids, start in asked]
    for _ in range(2):
        scored = engine.score(asked)
    assert max(map(oracle.error, scored)) < NATS
    assert "more tokens than were allowed" in warnings.text


def test_rows_that_cannot_be_cut_are_withheld(engine, asked, greedy, warnings, monkeypatch):
    """Uncut, they begin with memory that nobody wrote."""
    monkeypatch.setattr("opera_vllm.scheduler.scored_rows", broken)
    prompts, expected = greedy
    params = [rollout(120, temperature=0)] * 2 + [scoring(start) for _, start in asked]
    ids = [*prompts, *(ids for ids, _ in asked)]
    outputs = engine.llm.generate([{"prompt_token_ids": one} for one in ids], params)
    assert [list(output.outputs[0].token_ids) for output in outputs[:2]] == expected
    assert [output.prompt_logprobs for output in outputs[2:]] == [[None]] * 3
    assert warnings.text.count("withheld") == 1


def test_rows_of_other_tokens_are_withheld(engine, asked, monkeypatch, warnings):
    monkeypatch.setattr("opera_vllm.scheduler.torch.equal", lambda *_: False)
    ids, start = asked[0]
    (output,) = engine.llm.generate({"prompt_token_ids": ids}, scoring(start))
    assert output.prompt_logprobs == [None]


@pytest.mark.parametrize("row", [-1, 10**6, "7", True, None, [3], 2.0])
def test_a_first_row_that_is_none_is_an_ordinary_request(engine, asked, warnings, row):
    from opera_vllm import FIRST_ROW

    ids, _ = asked[0]
    (output,) = engine.llm.generate({"prompt_token_ids": ids}, scoring(1, extra_args={FIRST_ROW: row}))
    assert len(output.prompt_logprobs) == len(ids)
    assert output.num_cached_tokens == 0
    assert "does not fit" in warnings.text


def test_a_row_without_a_wish_for_logprobs_changes_nothing(engine, asked, greedy):
    from opera_vllm import FIRST_ROW

    prompts, expected = greedy
    params = rollout(120, temperature=0, extra_args={FIRST_ROW: 3})
    outputs = engine.llm.generate([{"prompt_token_ids": ids} for ids in prompts], params)
    assert [list(output.outputs[0].token_ids) for output in outputs] == expected


def test_a_scheduler_that_cannot_be_read_is_left_alone(engine, monkeypatch, caplog):
    from opera_vllm import scheduler

    class Bare:
        def __init__(self, connector):
            self.connector = connector

        def update_from_output(self, *_):
            return "as ever"

    monkeypatch.setattr(logging.getLogger("vllm"), "propagate", True)
    for connector in (object(), None):  # one that brings blocks by another way; one without a cache manager
        one = scheduler.scoring(Bare)(connector)
        assert one._opera is None
        assert one.update_from_output(None, None) == "as ever"
    assert "KV connector" in caplog.text


def test_ordinary_prompt_logprobs_are_untouched(engine, oracle, asked):
    from vllm import SamplingParams

    ids, _ = asked[0]
    (output,) = engine.llm.generate({"prompt_token_ids": ids}, SamplingParams(max_tokens=1, prompt_logprobs=0))
    rows = [row[target].logprob for row, target in zip(output.prompt_logprobs[1:], ids[1:], strict=True)]
    assert abs(oracle.logprobs(tuple(ids), 1) - rows).max() < NATS
    assert output.num_cached_tokens == 0
