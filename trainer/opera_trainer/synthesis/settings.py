"""How traces are synthesised and which are kept. Knows no stage."""

from __future__ import annotations

from typing import Literal

from opera_trainer.settings import Settings


class SynthesisSettings(Settings):
    """The cold start."""

    by: Literal["step", "reference", "paper"] = "reference"
