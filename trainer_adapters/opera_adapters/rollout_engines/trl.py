"""TRL's colocated vLLM, which samples in the trainer's own process, asked for scores between two rollouts.

Knows vLLM's `LLM` and how TRL holds it; no reward. Uses the `opera_vllm` plug-in's words.
"""

from __future__ import annotations

import asyncio
from typing import Any

from opera_client.errors import NotSupported
from opera_vllm.asking import PromptRows, rows, sampling_params


class ColocatedVllm:
    """`opera_vllm.asking.RolloutVllm` over an `LLM`: what is asked at the same time goes to it in one call.

    TRL waits for its rewards meanwhile, so nobody else calls the `LLM`.
    """

    def __init__(self, trainer: Any) -> None:
        """Raises NotSupported for a trainer whose vLLM cannot be asked here."""
        generation = getattr(trainer, "vllm_generation", None)
        if generation is None or generation.mode != "colocate":
            raise NotSupported(
                'score_on="rollout" needs GRPOConfig(use_vllm=True, vllm_mode="colocate"); for a vLLM server, '
                'give client=RewardClient.in_process(engine="vllm-http", vllm_url=…, model=…)'
            )
        if generation.enable_sleep_mode:
            raise NotSupported(
                "TRL's vLLM sleeps before rewards are asked for, and forgets what it has sampled; set "
                "vllm_enable_sleep_mode=False, or score with a separate service"
            )
        if generation.tensor_parallel_size > 1:
            raise NotSupported(
                "all ranks of a tensor-parallel vLLM must ask alike, and each has completions of its own; set "
                "vllm_tensor_parallel_size=1, or score with a separate service"
            )
        self._trainer, self._llm = trainer, generation.llm
        config = self._llm.llm_engine.model_config
        self.model, self.max_model_len = str(config.model), int(config.max_model_len)
        self.dtype = str(config.dtype).removeprefix("torch.")
        self._waiting: list[tuple[list[int], int | None, asyncio.Future[PromptRows]]] = []
        self._answering: asyncio.Task[None] | None = None

    async def score(self, token_ids: list[int], first_row: int | None) -> PromptRows:
        """Return a prompt's rows, in one call of vLLM with whatever else is asked for now."""
        answer: asyncio.Future[PromptRows] = asyncio.get_running_loop().create_future()
        self._waiting.append((token_ids, first_row, answer))
        if self._answering is None:
            self._answering = asyncio.create_task(self._answer())
        return await answer

    async def _answer(self) -> None:
        try:
            await asyncio.sleep(0)  # the prompts of a tree are asked for one right after the other
            while self._waiting:
                asked, self._waiting = self._waiting, []
                try:
                    found = await asyncio.to_thread(self._generate, [one[:2] for one in asked])
                except Exception as error:  # noqa: BLE001  whatever vLLM raises is theirs who asked
                    for *_, answer in asked:
                        if not answer.done():
                            answer.set_exception(error)
                else:
                    for (*_, answer), one in zip(asked, found, strict=True):
                        if not answer.done():
                            answer.set_result(one)
        finally:
            self._answering = None

    def _generate(self, asked: list[tuple[list[int], int | None]]) -> list[PromptRows]:
        from vllm import SamplingParams

        device = self._trainer.accelerator.device
        if device.type == "cuda":
            import torch

            torch.cuda.set_device(device)  # a thread begins on the first
        version = str(self._trainer._last_loaded_step)
        outputs = self._llm.generate(
            [{"prompt_token_ids": ids} for ids, _ in asked],
            [SamplingParams(**sampling_params(row)) for _, row in asked],
            use_tqdm=False,
        )
        return [rows(output)._replace(weight_version=version) for output in outputs]
