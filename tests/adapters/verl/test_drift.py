"""How far the scorer is from the policy: what counts, what is unknown, and who cannot measure it."""

from __future__ import annotations

import math
import time
from types import SimpleNamespace

import pytest
from tests.adapters.verl.rollouts import GROUPS, MANAGER, configuration

from opera_adapters.verl import OperaAgentLoopManager, OperaRewardManager
from opera_adapters.verl.drift import Drift, apart
from opera_adapters.verl.settings import OperaSettings
from opera_client.errors import InvalidRequest

AWAY = "http://127.0.0.1:9"


def test_the_scorers_distance_counts_sampled_tokens_only() -> None:
    assert apart([-1.0, 0.0, -2.0], [-1.5, -9.0, -1.0], [1, 0, 1]) == pytest.approx((0.5 - 1.0) / 2)
    for unknown in (apart(None, [-1.0], [1]), apart([-1.0], None, [1]), apart([0.0], [-1.0], [0])):
        assert math.isnan(unknown)


async def test_a_distance_that_nobody_measures_is_nan_in_time(caplog: pytest.LogCaptureFixture) -> None:
    output = SimpleNamespace(prompt_ids=[1], response_ids=[2], response_logprobs=[-1.0], response_mask=[1])
    drift = Drift(OperaSettings(url=AWAY))
    start = time.monotonic()
    found = await drift([output, output], scored_by="0", timeout_s=0.2)
    assert time.monotonic() - start < 10
    assert len(found) == 2
    assert all(math.isnan(one) for one in found)
    assert "opera/scorer_kl of 2 trajectories is unknown" in caplog.text


def test_a_rollout_without_log_probs_is_refused() -> None:
    config = configuration(
        AWAY, **GROUPS, reward__opera__scorer_kl=True, actor_rollout_ref__rollout__calculate_log_probs=False
    )
    with pytest.raises(InvalidRequest, match="must be true"):
        OperaAgentLoopManager(config)


def test_a_route_that_sees_no_log_probs_is_refused() -> None:
    config = configuration(AWAY, **MANAGER, reward__opera__scorer_kl=True)
    with pytest.raises(InvalidRequest, match="only OperaAgentLoopManager"):
        OperaRewardManager(config, None, None)
