"""GET /rewards, GET /model and the health endpoints: what is served and how it is doing."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from opera_client.wire._base import Answer
from opera_client.wire.common import ModelInfo


class Term(Answer):
    """One component's part in a reward."""

    component: str
    weight: float


class Formula(Answer):
    """How a reward comes from its components."""

    text: str
    """As one writes it, gates and outcomes included."""
    terms: list[Term]
    """The weighted sum before gates and outcomes; components that are not in it are shown and not paid."""


class PresetInfo(Answer):
    """One named configuration of a reward."""

    config: dict[str, Any]
    config_hash: str
    components: list[str]
    formula: Formula | None = None
    """For `open` tasks; null where the reward is no weighted sum of its components."""


class RewardInfo(Answer):
    """One entry of the registry."""

    name: str
    summary: str
    needs: list[str]
    """Any of `reference`, `group`, `outcome`, `entropy`, `second_model`."""
    source: str
    equation: str = ""
    """What it computes, in one line."""
    unsettled: list[str] = Field(default_factory=list)
    """What its paper leaves open, and what is assumed here."""
    turns: str = ""
    """What a turn of a trajectory means for it, and what its step rewards are."""
    presets: dict[str, PresetInfo]
    config_schema: dict[str, Any]


class RewardsInfo(Answer):
    """The answer of GET /rewards."""

    rewards: list[RewardInfo]


class ServedModel(ModelInfo):
    """The answer of GET /model."""

    route: str
    route_reason: str = ""
    """Why so, where it was not the user's choice."""
    vocab_size: int
    max_context: int
    max_batch_tokens: int
    think_open: str = ""
    """The tags around a thought, unless a request's configuration sets others."""
    think_close: str = ""
    think_source: str = ""
    """`template`: the model's chat template shows them; `default`: it shows none."""
    turn_end: str | None = None
    """What ends an assistant's turn, and is priced as the end of a reference."""
    memory_bytes: float | None = None
    """On a GPU what the engine has allocated now, on a CPU the most that its process has held; null where the
    engine does not know."""
    second_model: ModelInfo | None = None
    """The frozen model that rewards with the need `second_model` compare with; null without `--second-model`."""


class Health(Answer):
    """The answer of the health endpoints."""

    status: Literal["ok", "starting", "draining", "failed"]
    detail: str = ""
    queued_trees: int = 0
    queued_tokens: int = 0
