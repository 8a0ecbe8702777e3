"""/score under several contexts on a random tiny Qwen3 in float64 against plain transformers."""

from __future__ import annotations

from pathlib import Path

import pytest

from .test_reward_exact import MESSAGES, Prices, serving

REFERENCE = "It is 42, since 7 + 5 carries."
HINTED = [{"role": "user", "content": f"What is 17 + 25? (The answer: {REFERENCE})"}]
RESPONSES = ["<think>\n17 + 25 is 32.\n</think>\n\n32", "<think>\nWait, 7 + 5 carries.\n</think>\n\nIt is 42."]
NATS = 1e-6


async def test_privileged_contexts_are_the_oracles(tiny_qwen: Path, hf_tokenizer, oracle):
    """Members of a group under the prompt, the prompt with the reference, and a document of its own."""
    price = Prices(oracle)

    def encode(text: str) -> list[int]:
        return hf_tokenizer(text, add_special_tokens=False).input_ids

    def templated(messages: list[dict[str, str]]) -> list[int]:
        return encode(hf_tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    document = encode("The sea is grey and the harbour empty.\n\n")
    others = [{"name": "reference", "context": HINTED}, {"name": "document", "context_token_ids": document}]
    targets = [encode(text) for text in RESPONSES]
    masks = [None, [1, 1, 0, 0, *[1] * (len(targets[1]) - 4)]]
    items = [
        {"context": MESSAGES, "target_token_ids": target, "target_mask": mask, "other_contexts": others}
        for target, mask in zip(targets, masks, strict=True)
    ]
    async with serving(tiny_qwen, "float64") as client:
        answer = (await client.post("/score", json={"detail": "tokens", "items": items})).json()
        brief = (await client.post("/score", json={"items": items})).json()
    for target, mask, found, told in zip(targets, masks, answer["items"], brief["items"], strict=True):
        counts = mask or [1] * len(target)
        own = price(templated(MESSAGES), target)
        assert _priced(found["token_logprobs"], counts) == pytest.approx(_kept(own, counts), abs=NATS)
        assert found["tokens"] == sum(counts)
        assert found["sum_logprob"] == pytest.approx(sum(_kept(own, counts)), abs=NATS * len(own))
        contexts = {"reference": templated(HINTED), "document": document}
        for name, one in zip(contexts, found["other_contexts"], strict=True):
            there = price(contexts[name], target)
            differences = _kept([after - before for after, before in zip(there, own, strict=True)], counts)
            assert one["name"] == name
            assert _priced(one["token_logprobs"], counts) == pytest.approx(_kept(there, counts), abs=NATS)
            assert _priced(one["token_differences"], counts) == pytest.approx(differences, abs=2 * NATS)
            assert one["sum_difference"] == pytest.approx(sum(differences), abs=NATS * len(own))
            assert one["mean_difference"] == pytest.approx(sum(differences) / len(differences), abs=NATS)
            assert max(map(abs, differences)) > 1000 * NATS  # or a wrong context would go unseen
        assert found["token_texts"] == [hf_tokenizer.decode([one]) for one in target]
        without = {"token_logprobs": None, "token_ids": None, "token_texts": None}
        bare = [{**one, "token_logprobs": None, "token_differences": None} for one in found["other_contexts"]]
        assert told == {**found, **without, "other_contexts": bare}
    assert answer["usage"]["tokens_computed"] == price.distinct_tokens


def _kept(values: list[float], counts: list[int]) -> list[float]:
    return [value for value, one in zip(values, counts, strict=True) if one]


def _priced(values: list[float | None], counts: list[int]) -> list[float | None]:
    """The priced values; there is none where nothing is priced."""
    assert [value is not None for value in values] == [bool(one) for one in counts]
    return [value for value in values if value is not None]


async def test_what_cannot_be_priced_is_an_error_of_its_item(tiny_qwen: Path):
    good = {"context": "a", "target": "b", "other_contexts": [{"name": "n", "context": "c"}]}
    items = [good, {**good, "other_contexts": [{"name": "n", "context": ""}]}]
    async with serving(tiny_qwen) as client:
        answer = (await client.post("/score", json={"items": items})).json()
        twice = {**good, "other_contexts": [{"name": "n", "context": "c"}] * 2}
        refused = await client.post("/score", json={"items": [twice]})
    assert [one["status"] for one in answer["items"]] == ["ok", "error"]
    assert answer["items"][1]["error"]["field"] == "items.1.other_contexts.0.context"
    assert refused.status_code == 422
