"""The base of every settings class of the trainer: frozen, unknown keys refused, no NaN. Knows no stage."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """One section of a run's YAML file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)
