"""slime's group reward, by its call shape (commit 624b824): one call a group, samples with tokens and a label."""

from __future__ import annotations

import asyncio
import importlib
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from tests.adapters.gate import Gate

from opera_adapters import slime
from opera_client import RewardClient
from opera_client.errors import NotSupported
from opera_client.group_numbers import number_of

PROMPT, LABEL = "What is 17 + 25?\n", "42"
WRITTEN = ["<think>\n17 + 25 is 42.\n\n</think>\n\n42", "<think>\nI would say 32.\n\n</think>\n\n32"]


@dataclass
class Sample:
    """The fields of slime's Sample that a group reward sees."""

    response: str
    prompt: str = PROMPT
    label: str | None = LABEL
    tokens: list[int] = field(default_factory=list)
    response_length: int = 0
    reward: Any = None
    loss_mask: list[int] | None = None
    remove_sample: bool = False
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tokens = list((PROMPT + self.response).encode())
        self.response_length = len(self.response.encode())


@pytest.fixture(autouse=True)
def fresh() -> None:
    slime._default.cache_clear()  # noqa: SLF001


def batched_async_rm(path: str, samples: Any, **args: Any) -> list[Any]:
    """As slime does with `--custom-rm-path` and `--group-rm`."""
    module, _, name = path.rpartition(".")
    function = getattr(importlib.import_module(module), name)
    return asyncio.run(function(SimpleNamespace(**args), samples))


def direct(url: str) -> list[float]:
    group = {
        "prompt_token_ids": list(PROMPT.encode()),
        "reference": LABEL,
        "trajectories": [{"response_token_ids": list(text.encode())} for text in WRITTEN],
    }
    with RewardClient(url) as client:
        found = client.reward([group]).rewards[0]
    return [number_of(reward, found).reward for reward in found]


def test_a_group_is_one_request_by_ids(service: Gate) -> None:
    samples = [Sample(text) for text in WRITTEN]
    found = batched_async_rm("opera_adapters.slime.reward", samples, reward_key=None)
    (body,) = service.bodies
    assert [one["response_token_ids"] for one in body["groups"][0]["trajectories"]] == [
        list(text.encode()) for text in WRITTEN
    ]
    assert found == direct(service.url)
    assert [sample.metadata["opera"]["opera_failed"] for sample in samples] == [0, 0]
    assert not any(sample.remove_sample for sample in samples)


def test_with_a_reward_key_every_component_is_told(service: Gate) -> None:
    samples = [Sample(text) for text in WRITTEN]
    found = batched_async_rm("opera_adapters.slime.reward", samples, reward_key="opera")
    assert [one["opera"] for one in found] == direct(service.url)
    assert {"relative", "reflection", "answer", "value"} <= set(found[0])


def test_what_cannot_be_scored_is_removed(service: Gate) -> None:
    samples = [*(Sample(text) for text in WRITTEN), Sample("")]
    found = batched_async_rm("opera_adapters.slime.reward", samples)
    assert [sample.remove_sample for sample in samples] == [False, False, True]
    assert found[2] == pytest.approx(sum(found[:2]) / 2)


def test_a_sample_alone_is_refused(service: Gate) -> None:
    """Without --group-rm, slime calls with one sample."""
    with pytest.raises(NotSupported, match="--group-rm"):
        batched_async_rm("opera_adapters.slime.reward", Sample(WRITTEN[0]))


def test_rollouts_of_several_samples_are_refused(service: Gate) -> None:
    with pytest.raises(NotSupported, match="one sample a rollout"):
        batched_async_rm("opera_adapters.slime.reward", [[Sample(WRITTEN[0])], [Sample(WRITTEN[1])]])
