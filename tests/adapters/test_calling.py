"""The failure policy, against the real app on the dummy engine: a reward, or None and the reason, in time."""

from __future__ import annotations

import asyncio
import logging
import pickle
import time

import pytest
from tests.adapters.gate import Gate

from opera_adapters._calling import RewardCaller
from opera_adapters._grouping import Row
from opera_client import RewardClient
from opera_client.errors import InvalidRequest, WeightVersionMismatch

OPERA = {"reward": "opera", "preset": "hardened", "config": {}, "run_id": None}


def row(question: str, response: str, reference: str | None = "42") -> Row:
    return Row({"prompt": question, "reference": reference}, {"response": response}).checked()


ROWS = [
    row("What is 17 + 25?\n", "<think>\n17 + 25 is 42.\n\n</think>\n\n42"),
    row("What is 17 + 25?\n", "<think>\nI would say 32.\n\n</think>\n\n32"),
    row("What is 1 + 1?\n", "<think>\nTwo.\n\n</think>\n\n2", "2"),
    row("What is 1 + 1?\n", "<think>\nThree.\n\n</think>\n\n3", "2"),
]


def asker(
    url: str | None = None, client: RewardClient | None = None, timeout_s: float = 30, **fields
) -> RewardCaller:
    return RewardCaller(url, client, timeout_s=timeout_s, options={}, fields={**OPERA, **fields})


def rewards(one: RewardCaller, rows: list[Row] = ROWS, version: str | None = None) -> list[float | None]:
    return asyncio.run(one.score(rows, 2, step=3, weight_version=version)).rewards


def test_rewards_are_those_of_a_direct_request(service: Gate) -> None:
    with RewardClient(service.url) as client:
        expected = client.reward(
            [
                {**ROWS[at].question, "trajectories": [ROWS[at].trajectory, ROWS[at + 1].trajectory]}
                for at in (0, 2)
            ]
        ).rewards
    assert rewards(asker(service.url)) == [reward for group in expected for reward in group]
    assert service.bodies[-1]["step"] == 3


def test_a_client_in_process_serves_as_well(service: Gate) -> None:
    with RewardClient.in_process(engine="dummy") as client:
        assert rewards(asker(client=client)) == rewards(asker(service.url))


def test_a_row_that_cannot_be_sent_costs_its_group_nothing_else(service: Gate) -> None:
    found = rewards(asker(service.url), [*ROWS[:2], row("q", "x", None), row("q", "y", None)])
    assert None not in found[:2]
    assert found[2:] == [None, None]


def test_a_row_that_cannot_be_sent_leaves_its_group_the_others(service: Gate) -> None:
    bad = Row(ROWS[1].question, {"response_token_ids": [-1]}).checked()
    found = rewards(asker(service.url), [ROWS[0], bad])
    assert found[0] is not None
    assert found[1] is None


def test_nothing_to_send_is_no_request_and_ends_a_run_that_has_not_begun(service: Gate) -> None:
    caller = asker(service.url)
    with pytest.raises(InvalidRequest, match=r"training would be in vain.*reference"):
        rewards(caller, [row("q", "x", None)] * 2)
    assert service.bodies == []
    assert None not in rewards(caller, ROWS)
    asked = len(service.bodies)
    assert rewards(caller, [row("q", "x", None)] * 2) == [None, None]
    assert len(service.bodies) == asked


def test_an_empty_response_alone_has_no_reward(service: Gate, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "opera_adapters")
    found = rewards(asker(service.url), [ROWS[0], row("What is 17 + 25?\n", "")])
    assert found[0] is not None
    assert found[1] is None
    assert "1 of 2 completions have no reward: empty_response" in caplog.text


def test_no_service_is_none_within_the_deadline(service: Gate) -> None:
    service.kill()
    start = time.monotonic()
    assert rewards(asker(service.url, timeout_s=1)) == [None] * 4
    assert time.monotonic() - start < 20


def test_the_deadline_holds_for_a_patient_client_too(service: Gate) -> None:
    service.delay_s = 10
    start = time.monotonic()
    with RewardClient(service.url, timeout=None) as client:
        assert rewards(asker(client=client, timeout_s=0.5)) == [None] * 4
    assert time.monotonic() - start < 9


def test_the_service_is_told_the_deadline(service: Gate) -> None:
    rewards(asker(service.url, timeout_s=30))
    assert 0 < service.bodies[-1]["timeout_s"] <= 30


def test_other_weights_are_none_even_at_first(service: Gate, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "opera_adapters")
    assert rewards(asker(service.url), version="17") == [None] * 4
    assert WeightVersionMismatch.code in caplog.text


def test_what_no_retry_heals_raises_before_the_first_reward_only(service: Gate) -> None:
    one = asker(service.url, preset="no-such")
    with pytest.raises(InvalidRequest, match="no-such"):
        rewards(one)
    one.fields["preset"] = "hardened"
    assert None not in rewards(one)
    one.fields["preset"] = "no-such"
    assert rewards(one) == [None] * 4


def test_url_and_client_together_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="not both"), RewardClient() as client:
        asker("http://localhost:1", client)


def test_a_deadline_is_positive() -> None:
    with pytest.raises(InvalidRequest, match="timeout_s"):
        asker("http://localhost:1", timeout_s=0)


def test_pickles_by_address_only(service: Gate) -> None:
    one = asker(service.url)
    first = rewards(one)
    assert rewards(pickle.loads(pickle.dumps(one))) == first
    with RewardClient(service.url) as client, pytest.raises(TypeError, match="give the service's url"):
        pickle.dumps(asker(client=client))


def test_most_responses_without_a_thought_are_told_of_once(
    service: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "opera_adapters")
    plain = [row("What is 17 + 25?\n", "42"), row("What is 17 + 25?\n", "32")]
    one = asker(service.url)
    assert rewards(one, [*plain, *ROWS[:1], row("What is 17 + 25?\n", "43")]) != []
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "3 of the first 4 responses" in warning
    assert "think.mode" in warning
    assert "allow more new tokens" in warning
    rewards(one, plain)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("mode", ["none", "optional"])
def test_a_model_that_need_not_think_is_not_warned_of(
    service: Gate, caplog: pytest.LogCaptureFixture, mode: str
) -> None:
    caplog.set_level(logging.WARNING, "opera_adapters")
    plain = [row("What is 17 + 25?\n", "42"), row("What is 17 + 25?\n", "32")]
    found = rewards(asker(service.url, config={"think": {"mode": mode}}), plain)
    assert None not in found
    assert not caplog.records


def test_half_of_the_responses_are_not_most(service: Gate, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "opera_adapters")
    rewards(asker(service.url), [ROWS[0], row("What is 17 + 25?\n", "42")])
    assert not caplog.records
