"""One running vLLM: every call into its API, and nothing that a swap or a crash should know about.

Works on `Prompt`s and generation requests; knows no tree, no weight version, no retry policy.
"""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import fields
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoConfig
from vllm import SamplingParams
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import VLLMServerError
from vllm.inputs import tokens_input
from vllm.logprobs import FlatLogprobs
from vllm.lora.request import LoRARequest
from vllm.outputs import RequestOutput
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from opera_client.errors import EngineFailed, InvalidRequest, OperaError
from opera_service.engines.adapter import Adapter
from opera_service.engines.base import Generation, GenerationRequest
from opera_service.engines.vllm import adapters, rows
from opera_service.engines.vllm.plan import Prompt, Rows
from opera_vllm import FIRST_ROW

_PACKAGE = "opera_service.engines.vllm"
_SHARD_TOKENS = 64
"""Prompts that share this many first tokens go to the same data-parallel copy."""


class CoreDied(Exception):
    """vLLM's engine process is gone; every request in flight is lost."""


class Core:
    """A vLLM engine process and the handle on it."""

    def __init__(self, llm: AsyncLLM) -> None:
        self._llm = llm
        self._names, self._adapters = count(), count(1)
        self._adapter: LoRARequest | None = None
        self._in_flight, self._sign_of_life = 0, 0.0
        config = llm.vllm_config
        self.block_size: int = config.cache_config.block_size
        self.max_model_len: int = config.model_config.max_model_len
        self.vocab_size: int = config.model_config.get_vocab_size()
        self.dtype = str(config.model_config.dtype).removeprefix("torch.")
        self._fixed_tokens: bool = config.use_v2_model_runner
        self._copies: int = config.parallel_config.data_parallel_size
        self.world_size: int = config.parallel_config.world_size * self._copies
        lora = config.lora_config
        self._max_rank: int = lora.max_lora_rank if lora else 0
        self._targets = frozenset(lora.target_modules or ()) if lora else frozenset()
        self.batch_tokens: int = config.scheduler_config.max_num_batched_tokens

    @classmethod
    def start(cls, model: str, engine_args: dict[str, Any]) -> Core:
        """Start vLLM; blocks for as long as it loads. Raises InvalidRequest for an argument it does not have."""
        known = {field.name for field in fields(AsyncEngineArgs)}
        for name in engine_args.keys() - known:
            raise InvalidRequest(f"vLLM has no engine argument `{name}`", field=f"vllm.{name}")
        chatty = logging.getLogger("vllm").isEnabledFor(logging.INFO)
        args = {"disable_log_stats": True, "max_logprobs": 100, "use_tqdm_on_load": chatty} | engine_args
        if args.get("dtype", "auto") == "auto":
            args["dtype"] = _own_dtype(model, trust_remote_code=bool(args.get("trust_remote_code")))
        if current_platform.is_cpu():
            # The smallest that CPU attention takes: half a block is recomputed for every scored run.
            args.setdefault("block_size", 32)
        if args.get("enable_lora"):
            args.setdefault("lora_target_modules", list(adapters.TARGETS))
            adapters.check_targets(args["lora_target_modules"])
        # Given last: the exactness of this engine rests on these.
        args |= {
            "model": model,
            "skip_tokenizer_init": True,
            "enable_prefix_caching": True,
            "logprobs_mode": "raw_logprobs",
            "scheduler_cls": f"{_PACKAGE}.scheduler.ScoreScheduler",
            "worker_extension_cls": f"{_PACKAGE}.worker.PolicyWorker",
        }
        return cls(AsyncLLM.from_engine_args(AsyncEngineArgs(**args)))

    @property
    def runner(self) -> str:
        """`v2` where vLLM has its fixed-token path (GPU), `v1` elsewhere."""
        return "v2" if self._fixed_tokens else "v1"

    @property
    def dead(self) -> bool:
        """Whether the engine process is gone."""
        return bool(self._llm.errored)

    @property
    def stalled_s(self) -> float:
        """Seconds since vLLM last gave anything, while it has work."""
        return time.monotonic() - self._sign_of_life if self._in_flight else 0.0

    def kill(self) -> None:
        """End a process that does not answer; what waits for it raises CoreDied, and `stop` cleans up."""
        manager = self._llm.engine_core.resources.engine_manager
        for process in getattr(manager, "processes", ()):
            process.kill()

    async def score(self, prompt: Prompt, *, recompute: bool = False) -> Rows | None:
        """Read the scored rows of `prompt`; None when vLLM lost some of them.

        `recompute` ignores the prefix cache. Raises CoreDied, or EngineFailed for anything else.
        """
        output = await self._run(prompt.ids, self._scoring(prompt, recompute=recompute))
        cached = output.num_cached_tokens or 0
        if cached >= prompt.start:
            return None  # the first scored row was not computed: whatever came back is not it
        return _read(output, prompt, computed=len(prompt.ids) - cached)

    async def sample(self, request: GenerationRequest, number: int) -> Generation:
        """Sample continuation `number` of `request`; with a seed, it uses seed + number.

        One request each, so that each can end when it has `enough`; their prompt is computed once all the same.
        """
        params = SamplingParams(
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=request.top_k,
            seed=None if request.seed is None else request.seed + number,
            stop_token_ids=list(request.stop_ids),
            ignore_eos=True,  # only the ids that were asked for end a generation
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,  # also a sign of life
        )
        found: list[int] = []

        def enough(update: RequestOutput) -> bool:
            found.extend(update.outputs[0].token_ids)
            return request.enough is not None and not update.finished and request.enough(found)

        output = await self._run(request.prompt_ids, params, enough)
        ids = np.asarray(found, dtype=np.int32)
        if not output.finished:
            return Generation(ids, "enough")
        return Generation(ids, "stop" if output.outputs[0].finish_reason == "stop" else "length")

    async def read_rows(self) -> None:
        """Let the workers read scored rows as `rows` says; nothing may be asked before."""
        await self._rpc("opera_read_rows")

    async def load(self, path: str) -> None:
        """Put the checkpoint folder `path` into the running model and forget the old weights' cache.

        The caller sees to it that nothing is in flight.
        """
        await self.adapt(None)
        await self._rpc("opera_load", path)
        await self.forget()

    def check_adapter(self, adapter: Adapter) -> None:
        """Raise NotSupported when vLLM was not started for such an adapter."""
        adapters.check(adapter, max_rank=self._max_rank, targets=self._targets)

    async def adapt(self, folder: Path | None) -> None:
        """Use the LoRA adapter in `folder`, which was checked, from the next request on; None: the bare model.

        The prefix cache knows one from another.
        """
        old, self._adapter = self._adapter, None
        if old is not None:
            await self._guarded(self._llm.remove_lora(old.lora_int_id))
        if folder is None:
            return
        number = next(self._adapters)
        request = LoRARequest(f"opera-{number}", number, str(folder))
        if not await self._guarded(self._llm.add_lora(request)):
            raise EngineFailed("vLLM did not take the adapter; see its log")
        self._adapter = request

    async def forget(self) -> None:
        """Clear the prefix cache: keys of other weights in it cost 2.5 nats when they were measured."""
        await self._guarded(self._llm.pause_generation(mode="wait", clear_cache=True))
        cleared = await self._guarded(self._llm.reset_prefix_cache())
        await self._guarded(self._llm.resume_generation())
        if not cleared:
            raise EngineFailed("vLLM did not clear its prefix cache after new weights; nothing can be served")

    async def connect_trainer(self, init_info: dict[str, Any]) -> None:
        """Meet the trainer's process group; returns when every rank is there."""
        await self._rpc("init_weight_transfer_engine", init_info)

    async def begin_update(self) -> None:
        """Prepare the model to receive weights. The caller sees to it that nothing is in flight until the end."""
        await self.adapt(None)
        await self._rpc("start_weight_update")

    async def receive(self, update_info: dict[str, Any] | list[dict[str, Any]]) -> None:
        """Receive the tensors that `update_info` names, over the trainer's process group."""
        await self._rpc("update_weights", update_info)

    async def end_update(self) -> None:
        """Make the received weights the model's and forget the old weights' cache."""
        await self._rpc("finish_weight_update")
        await self._rpc("opera_repack")
        await self.forget()

    async def stop(self) -> None:
        """Stop the engine process and wait until it is gone."""
        if self._llm.output_handler is not None:
            self._llm.output_handler.cancel()  # or it reports the end of the process as a failure
        await asyncio.to_thread(self._llm.shutdown)

    def _scoring(self, prompt: Prompt, *, recompute: bool) -> SamplingParams:
        first, top = prompt.start - 1, prompt.top + prompt.entropy
        wanted: dict[str, Any]
        if self._fixed_tokens and not top:
            ids = prompt.ids[prompt.start :].astype(np.int64)[:, None]
            wanted = {"prompt_logprob_token_ids": ids, "prompt_logprob_start": first}
        else:
            wanted = {"prompt_logprobs": top, "flat_logprobs": True}
        extra = {rows.FIRST: first} | ({rows.ENTROPY: True} if prompt.entropy else {})
        return SamplingParams(
            **wanted,
            # Without the last one, vLLM ignores its cache for a prompt whose log-probabilities are wanted.
            extra_args=extra if recompute else extra | {FIRST_ROW: first},
            max_tokens=1,
            temperature=0.0,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    async def _run(
        self,
        ids: np.ndarray[Any, Any],
        params: SamplingParams,
        enough: Callable[[RequestOutput], bool] = lambda _: False,
    ) -> RequestOutput:
        """Return the last update of a request: that of its end, or the one that was `enough`."""
        copy = zlib.crc32(ids[:_SHARD_TOKENS].tobytes()) % self._copies if self._copies > 1 else None
        output: RequestOutput | None = None
        name = f"opera-{next(self._names)}"
        if not self._in_flight:
            self._sign_of_life = time.monotonic()
        self._in_flight += 1
        try:
            stream = self._llm.generate(
                tokens_input(ids.tolist()), params, name, lora_request=self._adapter, data_parallel_rank=copy
            )
            async with aclosing(stream):  # which aborts what has not ended
                async for update in stream:
                    output, self._sign_of_life = update, time.monotonic()
                    if enough(update):
                        return update
        except EngineDeadError as error:
            raise CoreDied from error
        except (VLLMServerError, ValueError) as error:  # EngineGenerateError and GenerationError are such
            raise EngineFailed(f"vLLM refused a prompt: {error.__cause__ or error}") from error
        finally:
            self._in_flight -= 1
        if output is None or not output.finished:
            raise EngineFailed("vLLM ended a request without an answer")
        return output

    async def _rpc(self, method: str, *args: Any) -> None:
        await self._guarded(self._llm.collective_rpc(method, args=args))

    async def _guarded(self, call: Any) -> Any:
        try:
            return await call
        except EngineDeadError as error:
            raise CoreDied from error
        except (asyncio.CancelledError, OperaError):
            raise
        except Exception as error:  # whatever vLLM's workers raised, as what their transport made of it
            if self.dead:
                raise CoreDied from error
            raise EngineFailed(f"vLLM could not do it: {error}") from error


def _own_dtype(model: str, *, trust_remote_code: bool) -> str:
    """Return what `auto` means on every engine: float32 on a CPU, else the checkpoint's own dtype.

    vLLM's own `auto` is bfloat16 on a CPU, and half precision for a checkpoint in float32.
    """
    if current_platform.is_cpu():
        return "float32"
    config = AutoConfig.from_pretrained(model, trust_remote_code=trust_remote_code)
    return str(getattr(config.get_text_config(), "dtype", None) or "auto").removeprefix("torch.")


def _read(output: RequestOutput, prompt: Prompt, *, computed: int) -> Rows | None:
    fixed = output.prompt_token_id_logprobs
    if fixed is not None:
        if fixed.shape != (prompt.rows, 1):
            return None
        return Rows(np.asarray(fixed[:, 0], dtype=np.float32), computed)
    flat = output.prompt_logprobs
    width = 1 + prompt.top + prompt.entropy  # the target itself, then the largest, then the entropy
    # All rows of a prompt that V2 recomputed, else the scored ones: both end alike.
    count = prompt.rows * width
    if not isinstance(flat, FlatLogprobs) or len(flat.token_ids) < count:
        return None
    ids = np.asarray(flat.token_ids[-count:], dtype=np.int32).reshape(prompt.rows, width)
    logprobs = np.asarray(flat.logprobs[-count:], dtype=np.float32).reshape(prompt.rows, width)
    if not np.array_equal(ids[:, 0], prompt.ids[prompt.start :]):
        return None
    largest = slice(1, 1 + prompt.top)
    return Rows(
        logprobs[:, 0],
        computed,
        ids[:, largest] if prompt.top else None,
        logprobs[:, largest] if prompt.top else None,
        logprobs[:, -1] if prompt.entropy else None,
    )
