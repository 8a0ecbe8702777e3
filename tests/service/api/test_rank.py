"""POST /rank and /score on the dummy engine, against the table."""

import math

import httpx
import pytest

from .table import ids_of, logprob, logprobs, mean

PROMPT, PREFIX, REFERENCE = "Q: 2+2?\n", "<think>four, ", "it is 4"
CANDIDATES = ["Wait, no.", "But", "so yes indeed it is"]


async def ranked(client: httpx.AsyncClient, **changes) -> dict:
    item = {
        "id": "x",
        "prompt": PROMPT,
        "prefix": PREFIX,
        "candidates": CANDIDATES,
        "reference": REFERENCE,
        **changes,
    }
    response = await client.post("/rank", json={"items": [item]})
    assert response.status_code == 200, response.text
    return response.json()["items"][0]


@pytest.mark.parametrize("by", ["branch", "branch_sum", "sequence", "reference"])
async def test_order_and_numbers(client: httpx.AsyncClient, by: str):
    targets = {
        "branch": [logprobs(PROMPT + PREFIX, branch) for branch in CANDIDATES],
        "branch_sum": [logprobs(PROMPT + PREFIX, branch) for branch in CANDIDATES],
        "sequence": [logprobs(PROMPT, PREFIX + branch) for branch in CANDIDATES],
        "reference": [logprobs(PROMPT + PREFIX + branch, REFERENCE) for branch in CANDIDATES],
    }[by]
    scores = [sum(tokens) if by == "branch_sum" else mean(tokens) for tokens in targets]
    item = await ranked(client, by=by)
    order = sorted(range(3), key=lambda index: -scores[index])
    assert item["ranking"] == order
    for index, found in enumerate(item["candidates"]):
        assert found["score"] == pytest.approx(scores[index])
        assert found["mean_logprob"] == pytest.approx(mean(targets[index]))
        assert found["sum_logprob"] == pytest.approx(sum(targets[index]))
        assert found["perplexity"] == pytest.approx(math.exp(-mean(targets[index])))
        assert found["tokens"] == len(targets[index])
        assert found["rank"] == order.index(index)


async def test_the_orders_differ_where_they_should(client: httpx.AsyncClient):
    rankings = {by: (await ranked(client, by=by))["ranking"] for by in ("branch", "branch_sum", "sequence")}
    assert rankings["branch_sum"][0] == 1, "the shortest branch has the least to lose"
    assert rankings["branch"] != rankings["branch_sum"]


async def test_ties_keep_the_order_of_the_request(client: httpx.AsyncClient):
    item = await ranked(client, candidates=["same", "But", "same", "same"])
    places = [item["ranking"].index(index) for index in (0, 2, 3)]
    assert places == sorted(places)
    assert item["candidates"][0]["score"] == item["candidates"][3]["score"]


async def test_ids_may_replace_every_text(client: httpx.AsyncClient):
    by_text = await ranked(client, by="reference")
    by_ids = await ranked(
        client,
        by="reference",
        prompt=None, prompt_token_ids=ids_of(PROMPT),
        prefix=None, prefix_token_ids=ids_of(PREFIX),
        candidates=[{"token_ids": ids_of(text)} for text in CANDIDATES],
        reference=None, reference_token_ids=ids_of(REFERENCE),
    )  # fmt: skip
    assert by_text == by_ids


async def test_without_prefix_sequence_is_branch(client: httpx.AsyncClient):
    assert await ranked(client, prefix=None, by="sequence") == await ranked(client, prefix=None, by="branch")


async def test_scores_of_targets(client: httpx.AsyncClient):
    items = [
        {"id": "plain", "context": PROMPT, "target": REFERENCE},
        {"context": PROMPT, "target": "x", "entropy": True},
        {"context_token_ids": ids_of("a"), "target_token_ids": ids_of("bc")},
    ]
    response = await client.post("/score", json={"items": items, "detail": "tokens"})
    plain, entropic, by_ids = response.json()["items"]
    expected = logprobs(PROMPT, REFERENCE)
    assert (plain["id"], plain["tokens"], plain["token_ids"]) == ("plain", len(REFERENCE), ids_of(REFERENCE))
    assert plain["token_logprobs"] == pytest.approx(expected)
    assert plain["sum_logprob"] == pytest.approx(sum(expected))
    assert plain["mean_logprob"] == pytest.approx(mean(expected))
    assert plain["perplexity"] == pytest.approx(math.exp(-mean(expected)))
    assert plain["mean_entropy"] is None
    row = [logprob(ids_of(PROMPT)[-1], token) for token in range(259)]
    assert entropic["mean_entropy"] == pytest.approx(-sum(math.exp(value) * value for value in row))
    assert entropic["token_entropies"] == pytest.approx([entropic["mean_entropy"]])
    assert by_ids["id"] == "2"
    assert by_ids["token_logprobs"] == pytest.approx(logprobs("a", "bc"))


async def test_equal_contexts_are_computed_once(client: httpx.AsyncClient):
    items = [{"context": PROMPT * 20, "target": text} for text in CANDIDATES]
    usage = (await client.post("/score", json={"items": items})).json()["usage"]
    context, feed = len(ids_of(PROMPT * 20)), sum(len(text) - 1 for text in CANDIDATES)
    assert usage["tokens_computed"] == context + feed
    assert usage["tokens_naive"] == 3 * context + sum(map(len, CANDIDATES))
