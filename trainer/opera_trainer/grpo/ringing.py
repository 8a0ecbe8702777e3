"""Says alarms while training runs, each once as long as it rings. Knows transformers' callbacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

from opera_trainer.grpo.alarms import alarms
from opera_trainer.training import log_entries


class Alarms(TrainerCallback):
    """Looks at the whole log after each step."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._ringing: set[str] = set()

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Say what has begun to ring."""
        if not state.is_world_process_zero:
            return
        found = alarms(log_entries(state.log_history))
        for name in sorted(found.keys() - self._ringing):
            self._say(f"  alarm, step {state.global_step}: {name}: {found[name]}")
        self._ringing = set(found)
