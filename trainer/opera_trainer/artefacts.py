"""What stages hand to each other: the rows of their files, and the files themselves.

    tasks/       synthesis.jsonl train.jsonl validation.jsonl test.jsonl harder.jsonl   of Task, card.json
    synthesize/  traces.jsonl of Trace (kept), candidates.jsonl, statistics.json
    sft/ grpo/   model/ (Hugging Face folder), log.jsonl of LogEntry; grpo/ also samples.jsonl of Shown
    evaluate-*/  evaluation.json of Evaluation, rollouts.jsonl of Rollout

Every row is one line of JSON; a broken line is named by file and number. Knows no stage.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from opera_client.errors import BadInput
from opera_client.wire import Message, SegmentResult, problem_of


class Row(BaseModel):
    """One line of a file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Task(Row):
    """A question with a known good answer."""

    id: str = Field(description="Canonical: equal tasks have equal ids, whatever file they come from.")
    prompt: list[Message] = Field(description="As the chat template takes it.")
    reference: str
    second_reference: str | None = Field(
        None, description="Another good answer, held out for judges: no reward and no training sees it."
    )
    kind: Literal["open", "math"] = "open"
    tier: str = "standard"
    check: str | None = Field(None, description="Name of an exact check; evaluation only, no reward sees it.")


class Trace(Row):
    """A synthesised response that SFT may learn from."""

    task_id: str
    prompt: list[Message]
    reference: str
    thought: str = Field(description="Inside of the think block.")
    answer: str
    response: str = Field(description="What SFT learns: `<think>` … `</think>` and the answer.")
    gain: float = Field(
        description="Mean log-prob of the reference after the thought minus before it, nats a token."
    )
    right: bool | None = Field(
        None, description="By the task's exact check: a statistic, unless `filters.check` is on."
    )


class LogEntry(Row):
    """What a trainer logged at one optimizer step."""

    step: int
    split: Literal["train", "validation"]
    metrics: dict[str, float]


class Shown(Row):
    """One group as it was sampled while training, for people to read."""

    step: int
    prompt: str
    responses: list[str]
    rewards: list[float | None]


class Rollout(Row):
    """One response of an evaluated model, and what the reward says of it."""

    task_id: str
    tier: str
    mode: Literal["sampled", "greedy"]
    sample: int
    prompt: list[Message]
    reference: str
    response: str
    tokens: int
    right: bool | None = None
    reward: float | None = None
    components: dict[str, float] | None = None
    mean_logprob: float | None = Field(None, description="Of the reference after the thought, nats a token.")
    initial_mean_logprob: float | None = None
    segments: list[SegmentResult] | None = None
    flags: list[str] = []


class Estimate(Row):
    """A mean with its 95 % confidence interval."""

    value: float
    low: float
    high: float
    count: int = Field(description="Tasks behind it.")


class Evaluation(Row):
    """What one model does on held-out tasks."""

    stage: str = Field(description="Whose model: `base`, `sft`, `grpo`.")
    model: str
    metrics: dict[str, dict[str, Estimate]] = Field(
        description="tier → metric → estimate; metrics are accuracy_sampled, accuracy_greedy, pass_at_4, "
        "reference_perplexity, tokens, reflective, empty_thought, reward_auc, component/…, flag/…"
    )


R = TypeVar("R", bound=BaseModel)


def read_rows(path: Path, kind: type[R]) -> Iterator[R]:
    """Yield the rows of a JSONL file.

    Raises:
        BadInput: the file is missing or a line is broken; the message names both.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    yield kind.model_validate_json(line)
                except ValidationError as error:
                    first = error.errors(include_url=False)[0]
                    where = ".".join(map(str, first["loc"])) or "line"
                    raise BadInput(f"{path}, line {number}: {where}: {problem_of(first)}") from None
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not UTF-8") from None


def write_rows(path: Path, rows: Iterable[BaseModel]) -> int:
    """Write a JSONL file whole or not at all, and return how many rows it has. Raises OSError."""
    partial = path.with_suffix(path.suffix + ".part")
    count = 0
    with partial.open("w", encoding="utf-8") as lines:
        for row in rows:
            lines.write(row.model_dump_json(exclude_none=True) + "\n")
            count += 1
    partial.replace(path)
    return count


def read_json(path: Path, kind: type[R]) -> R:
    """Return the one object of a JSON file. Raises BadInput."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from None
    except ValidationError as error:
        raise BadInput(f"{path}: {problem_of(error.errors(include_url=False)[0])}") from None


def write_json(path: Path, value: BaseModel | dict[str, object]) -> None:
    """Write a JSON file whole or not at all. Raises OSError."""
    found = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    partial = path.with_suffix(path.suffix + ".part")
    partial.write_text(json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    partial.replace(path)
