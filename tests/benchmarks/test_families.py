"""The table of all rewards, on an engine that costs nothing."""

import pytest

from families import REQUESTS, TERMS, Asked, Journal, measured, terms
from opera_client import RewardClient

ROW = {
    "prompt": "Which number is it?",
    "reference": "It is the number seven.",
    "responses": {"a": "It is the number seven.", "b": "It is eight, I think.", "c": "No."},
    "judge": {"a": 0.9, "b": 0.5, "c": 0.1},
}


def test_a_request_gives_every_reward_as_it_is_alone():
    answers = list(ROW["responses"].values())
    with RewardClient.in_process(engine="dummy") as client:
        table = measured(client, [ROW], 0)
        together = Asked(client, Journal(None), thought=False)
        assert list(table) == list(TERMS)
        group = {
            "prompt": [{"role": "user", "content": ROW["prompt"]}],
            "reference": ROW["reference"],
            "trajectories": [{"response": text} for text in answers],
        }
        for chosen in REQUESTS:
            for label, term in zip(chosen, terms(chosen, thought=False), strict=True):
                alone = client.reward(
                    [group], reward=term["name"], preset=term.get("preset", "hardened"), config=term["config"]
                )
                found = together(label, ROW["prompt"], ROW["reference"], answers).tolist()
                assert found == pytest.approx(alone.rewards[0], abs=1e-6), label
    assert all(0 <= figures["agreement"][0] <= 1 for figures in table.values())
    assert table["empo"]["tokens"] == 0 < table["logprob"]["tokens"]


def test_the_table_of_what_is_known_asks_nothing(tmp_path):
    other = {**ROW, "prompt": "And now?"}
    with RewardClient.in_process(engine="dummy") as client:
        first = measured(client, [ROW], 0, journal=Journal(tmp_path / "journal.jsonl"))
        closed = Journal(tmp_path / "journal.jsonl", closed=True)
        assert measured(client, [ROW, other], 1, journal=closed) == {
            label: {**figures, "tasks": 0} for label, figures in first.items()
        }


def test_what_the_journal_holds_is_not_asked_again(tmp_path):
    def refuse() -> None:
        raise AssertionError("asked again")

    journal = Journal(tmp_path / "journal.jsonl")
    assert journal.answer(["a"], lambda: {"x": [1.0, None]}) == {"x": [1.0, None]}
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write('\n{"asked": "cut o')
    again = Journal(tmp_path / "journal.jsonl")
    assert again.answer(["a"], refuse) == {"x": [1.0, None]}
    with pytest.raises(AssertionError, match="asked again"):
        again.answer(["b"], refuse)
    assert again.answer(["b"], lambda: 1) == 1
    assert Journal(tmp_path / "journal.jsonl").answer(["b"], refuse) == 1
