"""verl's checkpoints become the service's weights: after each save, version `<run_id>/<global_step>`.

Knows where verl puts a checkpoint; how weights are checked and exchanged is the service's business.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from verl.trainer.ppo.checkpoint_callback import CheckpointCallback

from opera_adapters._versions import weight_version
from opera_adapters.verl.settings import settings_of
from opera_client import RewardClient
from opera_client.errors import InvalidRequest, NotSupported, OperaError, RequestError

log = logging.getLogger("opera_adapters")

FOLDER = Path("actor") / "huggingface"


class OperaCheckpointCallback(CheckpointCallback):  # type: ignore[misc]  # verl has no types
    """For `trainer.checkpoint_callback_class`; the admin key is taken from `OPERA_ADMIN_KEY`.

    When the service is away, that is logged and training goes on: `reward.opera.max_lag` bounds how old its
    weights may become. What no retry heals (a wrong key, weights that do not fit) raises and ends the training.

    Raises:
        InvalidRequest: a configuration with which no checkpoint has weights to bring.
    """

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self._settings = settings_of(config)
        checkpoint = config.actor_rollout_ref.actor.checkpoint
        if "hf_model" not in checkpoint.save_contents:
            raise InvalidRequest(
                "needs hf_model: set it to [model,optimizer,extra,hf_model]",
                field="actor_rollout_ref.actor.checkpoint.save_contents",
            )
        if checkpoint.get("async_save", False):
            raise InvalidRequest(
                "a checkpoint must be written when it is announced",
                field="actor_rollout_ref.actor.checkpoint.async_save",
            )
        if config.trainer.save_freq < 1:
            raise InvalidRequest(
                f"is {config.trainer.save_freq}: no checkpoint, no weights", field="trainer.save_freq"
            )
        self._client = RewardClient(
            self._settings.url, api_key=os.environ.get("OPERA_ADMIN_KEY"), timeout=self._settings.timeout_s
        )

    def on_save(
        self,
        trainer: Any,  # noqa: ARG002 (verl's signature)
        global_step: int,
        checkpoint_dir: str,
        async_save: bool = False,  # noqa: ARG002
        **_: Any,
    ) -> None:
        """Bring the service the weights that were just saved."""
        folder = Path(checkpoint_dir).absolute() / FOLDER
        name = weight_version(self._settings.run_id, global_step)
        try:
            if self._settings.weights == "load":
                self._client.load_policy(str(folder), name)
                return
            if not any(folder.glob("*.safetensors")):
                raise NotSupported(
                    f"no *.safetensors in {folder}: the trainer's node cannot see what its workers saved; share "
                    "the folder, or set reward.opera.weights=load"
                )
            self._client.push_weights(folder, name)
        except OperaError as error:
            log.warning("the weights of step %d did not reach the service: %s", global_step, error)
            if isinstance(error, RequestError | NotSupported):
                raise
