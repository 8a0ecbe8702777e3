"""TRL's GRPOTrainer with two additions: what chooses the best checkpoint is logged; no reward ends training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trl import GRPOTrainer

from opera_client.errors import BadInput, Unavailable
from opera_trainer.grpo.arguments import SELECTION


class SelectingTrainer(GRPOTrainer):
    """GRPOTrainer whose validation metrics hold the sum of `select_by`.

    Raises:
        Unavailable: a whole batch has no reward; what training did so far is in its last checkpoint.
        BadInput: validation does not log a metric of `select_by`.
    """

    def __init__(self, *args: Any, select_by: Sequence[str], **others: Any) -> None:
        super().__init__(*args, **others)
        self.select_by = tuple(select_by)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log; TRL adds its own metrics to `logs` here, and transformers looks for the best in the same dict."""
        if any(key.startswith("eval_") for key in logs):
            averaged = self._metrics["eval"]
            missing = [name for name in self.select_by if not averaged.get(name)]
            if missing:
                raise BadInput(
                    f"grpo.select_by: validation logged no {', '.join(missing)}, only"
                    f" {', '.join(sorted(averaged))}"
                )
            logs[SELECTION] = sum(_mean(averaged[name]) for name in self.select_by)
        super().log(logs, start_time)
        if 0 in (logs.get("opera/scored"), logs.get("eval_opera/scored")):
            raise Unavailable(
                f"no completion of step {self.state.global_step} has a reward, see the warning above; mend the"
                " reward service and repeat the command: it goes on from the last checkpoint"
            )


def _mean(values: Sequence[float]) -> float:
    """Return the mean without NaN, which is what completions without a reward have; -inf when that is all."""
    found = [value for value in values if value == value]
    return sum(found) / len(found) if found else float("-inf")
