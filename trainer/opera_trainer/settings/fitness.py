"""What is looked at before GRPO begins. Knows no stage."""

from __future__ import annotations

from pydantic import Field

from opera_trainer.settings.base import Settings


class FitnessSettings(Settings):
    """A few groups of the policy that GRPO starts from, measured as by `opera-reward check`."""

    groups: int = Field(8, ge=1, description="Training tasks that are answered, `grpo.generations` times each.")
    attacked: int = Field(
        0, ge=0, description="Of them, how many are attacked: dozens of cheats each, as in `opera-reward check`."
    )
    refuse: bool = Field(True, description="Do not train where nothing could be learnt; else only say so.")
