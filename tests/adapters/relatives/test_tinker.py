"""The Tinker cookbook's group rewards, on its trajectories by the source of 0.6.1; the cookbook was not run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from opera_adapters.tinker import TinkerReward
from opera_client import RewardClient
from opera_client.errors import NotSupported

PROMPT, REFERENCE = "user: What is 17 + 25?<|end|>\nassistant: ", "It is 42."


def ids(text: str) -> list[int]:
    return list(text.encode())


class ModelInput:
    """`tinker.ModelInput`, as far as it is read."""

    def __init__(self, tokens: list[int], *, image: bool = False) -> None:
        self._tokens, self._image = tokens, image

    def to_ints(self) -> list[int]:
        if self._image:
            raise ValueError("to_ints only supported for ModelInput with EncodedTextChunks")
        return self._tokens


def trajectory(*steps: tuple[list[int], list[int]], image: bool = False) -> Any:
    """`Trajectory.transitions`: what was seen (`ob`) and written (`ac.tokens`)."""
    return SimpleNamespace(
        transitions=[
            SimpleNamespace(ob=ModelInput(seen, image=image), ac=SimpleNamespace(tokens=written), reward=0.0)
            for seen, written in steps
        ]
    )


CALL, HEARD = ids("<think>\nI ask.\n\n</think>\n\nadd"), ids("<|end|>42")
SAID = ids("<think>\nSo.\n\n</think>\n\n42")
TWO_TURNS = trajectory((ids(PROMPT), CALL), (ids(PROMPT) + CALL + HEARD, SAID))
ONE_TURN = trajectory((ids(PROMPT), SAID))


async def test_a_group_is_one_request_with_its_own_ids(service) -> None:
    found = await TinkerReward(reward="opera")([TWO_TURNS, ONE_TURN], reference=REFERENCE)
    mask = [1] * len(CALL) + [0] * len(HEARD) + [1] * len(SAID)
    trajectories = [
        {"response_token_ids": CALL + HEARD + SAID, "response_mask": mask},
        {"response_token_ids": SAID},
    ]
    (body,) = service.bodies
    (group,) = body["groups"]
    assert (group["prompt_token_ids"], group["reference"]) == (ids(PROMPT), REFERENCE)
    sent = [{name: one[name] for name in one if name.startswith("response_")} for one in group["trajectories"]]
    assert sent == trajectories
    with RewardClient() as client:
        (expected,) = client.reward([group], reward="opera", detail="reward").rewards
    assert [reward for reward, _ in found] == pytest.approx(expected, abs=2e-4)  # rounded, as trainers store it
    for _, metrics in found:
        assert (metrics["opera/group_size_seen"], metrics["opera/opera_failed"]) == (2, 0)


@pytest.mark.parametrize(
    ("group", "why"),
    [
        ([ONE_TURN, trajectory((ids("Other"), SAID))], "no group"),
        ([ONE_TURN, trajectory((ids(PROMPT), CALL), (ids(PROMPT) + HEARD, SAID))], "renderer"),
        ([trajectory((ids(PROMPT), SAID), image=True)], "only text"),
        ([trajectory()], "no steps"),
    ],
)
async def test_what_cannot_be_scored_is_refused(service, group, why) -> None:
    with pytest.raises(NotSupported, match=why):
        await TinkerReward()(group, reference=REFERENCE)
