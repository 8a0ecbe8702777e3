"""The table of all rewards, on an engine that costs nothing."""

import pytest

from families import TERMS, Asked, measured, terms
from opera_client import RewardClient

ROW = {
    "prompt": "Which number is it?",
    "reference": "It is the number seven.",
    "responses": {"a": "It is the number seven.", "b": "It is eight, I think.", "c": "No."},
    "judge": {"a": 0.9, "b": 0.5, "c": 0.1},
}


def test_one_request_gives_every_reward_as_it_is_alone():
    with RewardClient.in_process(engine="dummy") as client:
        table = measured(client, [ROW], 0)
        together = Asked(client, thought=False)(ROW["prompt"], ROW["reference"], list(ROW["responses"].values()))
        assert list(table) == list(together) == list(TERMS)
        group = {
            "prompt": [{"role": "user", "content": ROW["prompt"]}],
            "reference": ROW["reference"],
            "trajectories": [{"response": text} for text in ROW["responses"].values()],
        }
        for label, term in zip(TERMS, terms(thought=False), strict=True):
            alone = client.reward([group], reward=term["name"], config=term["config"]).rewards[0]
            assert together[label].tolist() == pytest.approx(alone, abs=1e-6)
    assert all(0 <= figures["agreement"][0] <= 1 for figures in table.values())
    assert table["empo"]["tokens"] == 0 < table["logprob"]["tokens"]
