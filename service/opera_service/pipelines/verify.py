"""POST /verify: NeMo-Gym's contract of a resources server; one rollout in, its reward out.

A rollout is what OpenAI's Responses API says of it: items of thoughts, texts, calls of tools and their outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from opera_client.errors import InvalidRequest, error_from_body
from opera_client.wire import Group, RewardRequest, Trajectory, first_problem, joined_parts, reference_of
from opera_service.pipelines.costed import Costed
from opera_service.pipelines.reward import score_groups
from opera_service.pipelines.runtime import Runtime

Item = Mapping[str, Any]
AnyReference = Annotated[str | list[str] | None, BeforeValidator(reference_of)]
_REASONING, _MESSAGE, _CALL, _OUTPUT = "reasoning", "message", "function_call", "function_call_output"


class VerifyQuery(BaseModel):
    """What the URL says; NeMo-Gym's body has no room for it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    reward: str = "opera"
    preset: str = "hardened"
    task: Literal["open", "math"] = "open"


class VerifyRequest(BaseModel):
    """NeMo-Gym's body; further columns of the dataset's row are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    responses_create_params: dict[str, Any]
    """What the model was asked, with `input` as text or messages."""
    response: dict[str, Any]
    """What it answered, with the items of all turns in `output`."""
    reference: AnyReference = None
    expected_answer: AnyReference = Field(None, description="Read where there is no `reference`.")
    ground_truth: AnyReference = Field(None, description="Read where there is neither.")


class VerifyResult(BaseModel):
    """NeMo-Gym's answer: what was sent, and what it is worth."""

    responses_create_params: dict[str, Any]
    response: dict[str, Any]
    reward: float
    reward_components: dict[str, float]
    """The same keys for every rollout of a reward and preset."""
    step_rewards: list[float]
    """One a turn of the policy; they add up to the reward."""
    flags: list[str]


async def verify(
    query: VerifyQuery, runtime: Runtime, request: VerifyRequest, *, deadline: float | None = None
) -> Costed:
    """Reward one rollout; where a reward compares members, it is the only one. A failure is an error, never a 0.

    Raises what `score_groups` does, the rollout's own error, and `InvalidRequest` for items that cannot be read.
    """
    group = await runtime.in_thread(group_of, request, query.task)
    asked = RewardRequest(reward=query.reward, preset=query.preset, detail="reward", groups=[group])
    try:
        answer = await score_groups(runtime, asked, deadline=deadline)
    except InvalidRequest as error:
        if error.field != "groups.0.reference":
            raise
        raise InvalidRequest(
            f"{query.reward} needs a known good answer: send `reference`, `expected_answer` or `ground_truth` "
            "beside the response",
            field="reference",
        ) from error
    result = answer.groups[0].trajectories[0]
    if result.reward is None or result.error is not None:
        raise error_from_body({"error": result.error.model_dump() if result.error else {}}, status=422)
    steps = [step.reward for step in result.steps or ()]
    made = VerifyResult(
        responses_create_params=request.responses_create_params,
        response=request.response,
        reward=result.reward,
        reward_components=result.components or {},
        step_rewards=steps or [result.reward],
        flags=result.flags,
    )
    return Costed(made, answer.usage, answer.timing_ms, answer.model.weight_version)


def group_of(request: VerifyRequest, task: Literal["open", "math"]) -> Group:
    """Return the rollout as a group of one. Raises `InvalidRequest` naming what cannot be read."""
    reference = request.reference or request.expected_answer or request.ground_truth
    output = _items(request.response.get("output"), "response.output")
    asked = request.responses_create_params
    fields: dict[str, Any] = {"prompt": _prompt(asked), "reference": reference, "task": task}
    by_ids = _by_ids(output)
    if by_ids is not None:
        fields["prompt_token_ids"], trajectory = by_ids
    else:
        trajectory = {"turns": list(turns_of(output))}
    try:
        return Group(**fields, trajectories=[Trajectory(**trajectory)])
    except ValidationError as error:
        where, said = first_problem(error, Group)
        raise InvalidRequest(said, field=where or "response.output") from error


def _prompt(asked: Mapping[str, Any]) -> list[dict[str, Any]]:
    given = asked.get("input")
    system = [{"role": "system", "content": asked["instructions"]}] if asked.get("instructions") else []
    if isinstance(given, str):
        return [*system, {"role": "user", "content": given}]
    found: list[dict[str, Any]] = []
    for item in _items(given, "responses_create_params.input"):
        if item.get("type", _MESSAGE) == _MESSAGE and "role" in item:
            found.append({"role": item["role"], "content": item.get("content")})
        else:
            found += turns_of([item])
    return [*system, *found]


def turns_of(items: Sequence[Item]) -> Iterator[dict[str, Any]]:
    """Yield turns: a thought, a text and calls without anything of the environment's between them are one."""
    own: _Own | None = None
    for number, item in enumerate(items):
        kind = item.get("type", _MESSAGE)
        if kind == _OUTPUT or (kind == _MESSAGE and item.get("role") != "assistant"):
            if own:
                yield own.turn()
                own = None
            content = item.get("output") if kind == _OUTPUT else item.get("content")
            yield {"role": "tool" if kind == _OUTPUT else "environment", "content": _text(content, number)}
            continue
        own = own or _Own()
        if kind == _REASONING:
            own.thoughts.append(_thought(item, number))
        elif kind == _CALL:
            function = {"name": item.get("name"), "arguments": item.get("arguments")}
            own.calls.append({"type": "function", "function": function})
        elif kind == _MESSAGE:
            own.texts.append(_text(item.get("content"), number))
        else:
            named = str(kind)[:40]
            raise InvalidRequest(f"an item of type {named!r} cannot be read", field=f"response.output.{number}")
    if own:
        yield own.turn()


@dataclass
class _Own:
    """What the policy said since its environment did."""

    thoughts: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)

    def turn(self) -> dict[str, Any]:
        found: dict[str, Any] = {"role": "assistant", "content": "".join(self.texts)}
        if self.thoughts:
            found["reasoning_content"] = "".join(self.thoughts)
        if self.calls:
            found["tool_calls"] = self.calls
        return found


def _thought(item: Item, number: int) -> str:
    parts: list[object] = []
    for name in ("summary", "content"):
        given = item.get(name) or []
        if not isinstance(given, list):
            raise InvalidRequest("must be a list of parts", field=f"response.output.{number}.{name}")
        parts += given
    return _text([{**part, "type": "text"} if isinstance(part, Mapping) else part for part in parts], number)


def _text(content: object, number: int) -> str:
    try:
        return joined_parts(content) if isinstance(content, list) else str(content or "")
    except ValueError as error:
        raise InvalidRequest(str(error), field=f"response.output.{number}") from error


def _by_ids(items: Sequence[Item]) -> tuple[list[int], dict[str, Any]] | None:
    """Return the prompt and the trajectory by the ids of every call, where NeMo-Gym's model server kept them.

    None where it did not, or a call's prompt does not go on from what came before it.
    """
    calls = [
        (_ids(item, "prompt_token_ids", number), _ids(item, "generation_token_ids", number))
        for number, item in enumerate(items)
        if item.get("prompt_token_ids") and item.get("generation_token_ids")
    ]
    path: list[int] = []
    mask: list[int] = []
    for prompt, written in calls:
        if prompt[: len(path)] != path:
            return None
        mask += [0] * (len(prompt) - len(path)) + [1] * len(written)
        path = [*prompt, *written]
    if not calls:
        return None
    start = len(calls[0][0])
    return calls[0][0], {"response_token_ids": path[start:], "response_mask": mask[start:]}


def _ids(item: Item, name: str, number: int) -> list[int]:
    given = item[name]
    if not isinstance(given, list):
        raise InvalidRequest("must be a list of token ids", field=f"response.output.{number}.{name}")
    return given


def _items(given: object, field: str) -> list[Item]:
    if given == []:
        raise InvalidRequest("is empty; send the items that the model wrote", field=field)
    if not isinstance(given, list) or not all(isinstance(one, Mapping) for one in given):
        raise InvalidRequest("must be a list of items, as OpenAI's Responses API has them", field=field)
    return given
