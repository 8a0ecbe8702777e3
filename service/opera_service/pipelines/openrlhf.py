"""POST /openrlhf/reward: OpenRLHF's remote reward protocol, spoken on top of groups that gather.

The trainer sends single samples without ids and needs a number for each, or it stops: `group_numbers` says which.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from opera_client.errors import InvalidRequest
from opera_client.group_numbers import number_of
from opera_client.wire import FirstError, MemberRequest, Timing, Usage, reference_of
from opera_service.pipelines.costed import Costed
from opera_service.pipelines.member import reward_unnamed
from opera_service.pipelines.member_reward import MemberReward
from opera_service.pipelines.runtime import Runtime
from opera_service.rewards.registry import resolve

ANSWER_WITHIN_S = 175.0
"""The trainer's client hangs up after 180 s, and cannot be told otherwise."""
MAX_WAIT_S = 170.0
START_TOKEN_CHARS = 64
"""A start token that the tokenizer put before the prompt is shorter than this."""
LEAST_OVERLAP = 8
"""Characters of the prompt that even a cut one must have left, lest a chance match passes for it."""


class OpenRLHFQuery(BaseModel):
    """What the URL says; the trainer's body has no room for it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    group_size: int = Field(ge=1, description="`--rollout.n_samples_per_prompt`.")
    wait_s: float = Field(60.0, gt=0, le=MAX_WAIT_S, description="How long a sample waits for the others.")
    reward: str = "opera"
    preset: str = "hardened"
    task: Literal["open", "math"] = "open"


Texts = Annotated[list[str], FirstError()]
Labels = Annotated[list[Annotated[str | list[str], BeforeValidator(reference_of)]], FirstError()]


class OpenRLHFRequest(BaseModel):
    """The trainer's body: lists of equal length, in practice 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    query: Texts
    """Prompt and response in one; the prompt may be cut on the left."""
    prompts: Texts
    labels: Labels
    """The reference answers (`--data.label_key`)."""


class OpenRLHFResult(BaseModel):
    """Numbers for one sample, lists of numbers otherwise; `extra_logs` always has the same keys."""

    rewards: float | list[float]
    scores: float | list[float]
    """In [0, 1], for dynamic filtering: the reward's place between its group's lowest and highest. 0 for everybody
    where those are equal, so that a group without signal is filtered out."""
    extra_logs: dict[str, float | list[float]]


async def reward_samples(
    query: OpenRLHFQuery, runtime: Runtime, request: OpenRLHFRequest, *, deadline: float | None
) -> Costed:
    """Reward every sample with its group. `deadline` is a time of the runtime's clock.

    Raises like `reward_unnamed`, and `InvalidRequest`.
    """
    if not len(request.query) == len(request.prompts) == len(request.labels):
        raise InvalidRequest("query, prompts and labels must have equal lengths", field="labels")
    runtime.limits.check_trajectories(len(request.query), "query")
    components = resolve(query.reward, query.preset, {}).components
    asked = [_member(query, request, index) for index in range(len(request.query))]
    try:
        async with asyncio.TaskGroup() as together:
            waits = [together.create_task(reward_unnamed(runtime, one, deadline=deadline)) for one in asked]
    except BaseExceptionGroup as raised:
        raise raised.exceptions[0] from None
    rewarded = [wait.result() for wait in waits]
    samples = [sample_of(one, components) for one in rewarded]
    names = ("rewards", "scores", *components, *_FLAGS)
    columns = {name: [sample[name] for sample in samples] for name in names}
    scalars = {name: column[0] if len(column) == 1 else column for name, column in columns.items()}
    answer = OpenRLHFResult(rewards=scalars.pop("rewards"), scores=scalars.pop("scores"), extra_logs=scalars)
    return Costed(answer, *_cost(rewarded), runtime.engine.info.weight_version)


def _cost(rewarded: Sequence[MemberReward]) -> tuple[Usage, Timing]:
    """Add up the groups' costs, each once, however many of its samples were asked about."""
    groups = {(one.usage.model_dump_json(), one.timing.model_dump_json()): one for one in rewarded}.values()
    return (
        Usage.total([one.usage for one in groups]),
        Timing(
            encode=max((one.timing.encode for one in groups), default=0.0),
            queue=max((one.timing.queue for one in groups), default=0.0),
            engine=sum(one.timing.engine for one in groups),
            total=max((one.timing.total for one in groups), default=0.0),
        ),
    )


def sample_of(rewarded: MemberReward, components: Sequence[str]) -> dict[str, float]:
    """Return every number of one sample's answer by name."""
    result = rewarded.result
    number = number_of(result.reward, rewarded.group)
    return {
        "rewards": number.reward,
        "scores": number.score,
        **dict.fromkeys(components, 0.0),
        **(result.components or {}),
        "group_size_seen": float(result.group_size_seen),
        "opera_failed": float(result.reward is None),
        "opera_partial": float("group_partial" in result.flags),
        "opera_late": float("late_member" in result.flags),
    }


_FLAGS = ("group_size_seen", "opera_failed", "opera_partial", "opera_late")


def response_of(query: str, prompt: str) -> str | None:
    """Return what follows the prompt in `query`; None when neither the prompt nor its end is there.

    A start token may stand before the prompt, and a long prompt has lost its beginning, perhaps in the middle of a
    character. Where its end could be matched in two lengths, the longer one counts.
    """
    start = query.find(prompt, 0, len(prompt) + START_TOKEN_CHARS)
    if start >= 0:
        return query[start + len(prompt) :]
    cut = query.lstrip("\ufffd")
    shared = _overlap(prompt, cut)
    return cut[shared:] if shared >= LEAST_OVERLAP else None


def _overlap(text: str, then: str) -> int:
    """Return the length of the longest end of `text` that `then` starts with, after Knuth, Morris, Pratt."""
    text = text[-len(then) :] if then else ""
    border = [0] * (len(then) + 1)  # border[k]: the longest proper prefix of then[:k] that is its end, too
    length = 0
    for index in range(1, len(then)):
        while length and then[index] != then[length]:
            length = border[length]
        length += then[index] == then[length]
        border[index + 1] = length
    matched = 0
    for character in text:
        while matched and character != then[matched]:
            matched = border[matched]
        matched += character == then[matched]
    return matched


def _member(query: OpenRLHFQuery, request: OpenRLHFRequest, index: int) -> MemberRequest:
    prompt, label = request.prompts[index], request.labels[index]
    response = response_of(request.query[index], prompt)
    if response is None:
        raise InvalidRequest(
            "does not begin with its prompt, nor with the end of it; the service takes the response to be what "
            "follows the prompt",
            field=f"query.{index}",
        )
    return MemberRequest(
        run_id="openrlhf",
        group_id=sha256(json.dumps([prompt, label]).encode()).hexdigest(),
        group_size=query.group_size,
        member_id="-",  # there is none: places are given by order of submission
        wait_s=query.wait_s,
        reward=query.reward,
        preset=query.preset,
        task=query.task,
        detail="reward",
        prompt=prompt,
        reference=label,
        response=response,
    )
