"""The policy as scorer: a callback of transformers' Trainer that brings the service the weights of every step.

Order in the Trainer: reward, backward, optimizer, `on_step_end`. So at each reward call the service has exactly
the weights that wrote the completions. Knows models and files; scoring is the service's.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from opera_adapters import _ranks
from opera_adapters._versions import weight_version
from opera_client import RewardClient
from opera_client.errors import InvalidRequest, NotSupported, OperaError, RequestError

log = logging.getLogger("opera_adapters")


class PolicySync(TrainerCallback):
    """Push the policy's weights before the first step and after each one.

    The first rank pushes, the others wait, so that none is scored on old weights. When the service is away, that
    is logged and training goes on: with `OperaReward(follow_policy=True)` old weights are never asked. What no
    retry heals (a wrong key, weights that are not finite, a version taken by another run) raises, on every rank.
    Works for one process, DDP and FSDP2; LoRA, FSDP1 and ZeRO-3 are refused when training begins.

    Args:
        url: the service's address; `OPERA_REWARD_URL` or http://127.0.0.1:8000 by default.
        client: instead of `url`, a client.
        admin_key: one of the service's `--admin-key-file`.
        run_id: name of this run, as given to `OperaReward`. A version names one set of weights for ever: without a
            name of its own a second run meets the versions of the first and is refused.
        decay: push a running mean of the policy instead, of which this share stays at each step: a scorer that
            follows slowly. It is kept in checkpoints, so that a resumed training goes on with it.
        timeout_s: seconds for one push, retries included.
        folder: where the weights are written first, e.g. /dev/shm; the system's temporary folder by default.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        client: RewardClient | None = None,
        admin_key: str | None = None,
        run_id: str | None = None,
        decay: float | None = None,
        timeout_s: float = 300.0,
        folder: Path | None = None,
    ) -> None:
        if decay is not None and not 0 < decay < 1:
            raise InvalidRequest(f"must lie between 0 and 1, not {decay}", field="decay")
        self.run_id, self.decay, self.folder = run_id, decay, folder
        self._mean: dict[str, Any] | None = None
        self._client = client or RewardClient(url, api_key=admin_key, timeout=timeout_s)

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:  # noqa: ARG002
        """Push the weights that training starts from."""
        kept = _kept(args, state)
        if self.decay is not None and kept.is_file():
            self._mean = load_file(kept)
        self._push(model, state.global_step, moves=False)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:  # noqa: ARG002
        """Push the weights that this step made."""
        self._push(model, state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Keep the running mean in the checkpoint that was just written."""
        if self._mean is not None and _ranks.own() == 0:
            save_file(self._mean, _kept(args, state))

    def _push(self, model: Any, step: int, *, moves: bool = True) -> None:
        """Push from the first rank; collective, also when it fails."""
        tensors = whole_tensors(model)
        if self.decay is not None and _ranks.own() == 0:
            tensors = self._mean = mixed(self._mean, tensors, self.decay if moves else 1.0)
        error: OperaError | None = None
        if _ranks.own() == 0:
            try:
                with tempfile.TemporaryDirectory(dir=self.folder) as folder:
                    path = Path(folder) / "model.safetensors"
                    save_file(tensors, path)
                    self._client.push_weights(path, weight_version(self.run_id, step))
            except OperaError as problem:
                error = problem
            except OSError as problem:
                error = OperaError(f"cannot write the weights: {problem}; see `folder`")
            if error is not None:
                log.warning("the weights of step %d did not reach the service: %s", step, error)
        if _ranks.count() > 1:
            error = _ranks.gather([error])[0][0]
        if isinstance(error, RequestError | NotSupported):
            raise error


def _kept(args: Any, state: Any) -> Path:
    """Return where a checkpoint keeps the running mean."""
    return Path(args.output_dir) / f"checkpoint-{state.global_step}" / "policy_mean.safetensors"


def mixed(old: dict[str, Any] | None, new: dict[str, Any], stays: float) -> dict[str, Any]:
    """Return `stays` · old + (1 − `stays`) · new, tensor by tensor; `new` where there is no old."""
    if old is None:
        return {name: tensor.clone() for name, tensor in new.items()}
    return {
        name: old[name] * stays + tensor * (1 - stays) if tensor.is_floating_point() else tensor.clone()
        for name, tensor in new.items()
    }


def whole_tensors(model: Any) -> dict[str, Any]:
    """Return the model's parameters and buffers by name, on the CPU, tied ones once; collective under FSDP2.

    Raises:
        NotSupported: parameters that cannot be gathered here.
    """
    if hasattr(model, "peft_config"):
        raise NotSupported("PolicySync cannot push adapters (LoRA); merge them, or save and POST /policy/load")
    if any(hasattr(parameter, "ds_id") for parameter in model.parameters()):
        raise NotSupported("PolicySync cannot gather ZeRO-3 parameters; save a checkpoint and POST /policy/load")
    if any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules()):
        raise NotSupported("PolicySync cannot gather FSDP1 parameters; use FSDP2, or save and POST /policy/load")
    every = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    tied = every - {name for name, _ in model.named_parameters()}
    found: dict[str, Any] = {}
    for name, tensor in model.state_dict().items():
        if name not in tied:
            whole = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
            found[name.removeprefix("module.")] = whole.detach().cpu().contiguous()
    return found
