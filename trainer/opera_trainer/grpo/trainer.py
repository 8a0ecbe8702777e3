"""TRL's GRPOTrainer, which also logs what chooses the best checkpoint and ends where nothing is learnt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
from trl import GRPOTrainer

from opera_client.errors import BadInput, Unavailable
from opera_trainer.artefacts import Shown
from opera_trainer.grpo.arguments import SELECTION


class SelectingTrainer(GRPOTrainer):
    """GRPOTrainer whose validation metrics hold the sum of `select_by`.

    Every `show_every` steps the first group of the batch is appended to the file `shown`; 0 for never.

    Raises:
        Unavailable: a whole batch has no reward; what training did so far is in its last checkpoint.
        BadInput: validation does not log a metric of `select_by`, or a whole batch is paid nothing for its form.
    """

    model_wrapped: Any
    """The policy as TRL samples from it."""

    def __init__(
        self, *args: Any, select_by: Sequence[str], shown: Path, show_every: int = 0, **others: Any
    ) -> None:
        super().__init__(*args, **others)
        self.select_by = tuple(select_by)
        self.shown, self.show_every = shown, show_every
        self._sampler: Any = None

    def _generate_single_turn(self, *args: Any, **others: Any) -> Any:
        """Sample; with `precision: bfloat16` from a copy in bfloat16.

        Mixed precision casts every weight again for every token that is sampled; the copy is cast once a batch. It
        takes two bytes a weight. Adapters, several processes and vLLM sample as TRL does.
        """
        adapted = isinstance(self.accelerator.unwrap_model(self.model), PeftModel)
        if not self.args.bf16 or self.use_vllm or self.accelerator.num_processes > 1 or adapted:
            return super()._generate_single_turn(*args, **others)
        trained = self.model_wrapped
        self.model_wrapped = self.sampling_copy()
        try:
            return super()._generate_single_turn(*args, **others)
        finally:
            self.model_wrapped = trained

    def sampling_copy(self) -> Any:
        """Return the policy as it is now, in bfloat16."""
        policy = self.accelerator.unwrap_model(self.model)
        if self._sampler is None:
            twin = AutoModelForCausalLM.from_config(policy.config, dtype=torch.bfloat16)  # type: ignore[no-untyped-call]
            self._sampler = twin.to(policy.device).eval()
        self._sampler.load_state_dict(policy.state_dict())
        return self._sampler

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
        elif "loss" in logs and self.show_every and self.state.global_step % self.show_every == 0:
            self._show()
        super().log(logs, start_time)
        self._refuse_unformed(logs)
        if 0 in (logs.get("opera/scored"), logs.get("eval_opera/scored")):
            raise Unavailable(
                f"no completion of step {self.state.global_step} has a reward, see the warning above; mend the"
                " reward service and repeat the command: it goes on from the last checkpoint"
            )

    def _show(self) -> None:
        """Keep a group of the batch that the step was made from."""
        if not self.is_world_process_zero() or not self._logs["completion"]:
            return
        rewards = list(self._logs["rewards"].get("opera", ()))[: self.num_generations]
        one = Shown(
            step=self.state.global_step,
            prompt=_text(self._logs["prompt"][0]),
            responses=[_text(text) for text in list(self._logs["completion"])[: self.num_generations]],
            rewards=[None if value is None or value != value else float(value) for value in rewards],
        )
        with self.shown.open("a", encoding="utf-8") as lines:
            lines.write(one.model_dump_json() + "\n")

    def _refuse_unformed(self, logs: dict[str, float]) -> None:
        """Raise when no completion of the step has the form that the reward asks for: its gradient is 0."""
        if logs.get("opera/flag/format_gate") == 1.0:
            raise BadInput(
                f"grpo: all completions of step {self.state.global_step} are paid nothing for their form (flag"
                " format_gate): nothing can be learnt from them. If the model thinks, its thoughts are cut off:"
                " raise grpo.max_completion_length, or teach the form by a cold start and SFT. If it does not"
                " think, set grpo.reward.config: {think: {mode: none}}"
            )


def _mean(values: Sequence[float]) -> float:
    """Return the mean without NaN, which is what completions without a reward have; -inf when that is all."""
    found = [value for value in values if value == value]
    return sum(found) / len(found) if found else float("-inf")


def _text(said: Any) -> str:
    """Return messages, or text, as text."""
    return said if isinstance(said, str) else "\n\n".join(str(message["content"]) for message in said)
