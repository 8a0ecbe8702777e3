"""OPERA rewards in OpenRLHF's rollout, at the size of a CPU: the embedded model answers where vLLM needs a GPU.

    opera-reward serve &                                  # in another terminal
    python examples/openrlhf_rollout.py --url http://127.0.0.1:8000

OpenRLHF's own single-turn executor generates, `AgentExecutor` rewards whole groups. For a training, give
examples/openrlhf_agent.py to `--train.agent_func_path`.
"""

from __future__ import annotations

import argparse
import asyncio
from types import SimpleNamespace
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from opera_adapters.openrlhf import AgentExecutor
from opera_demo import model_path
from opera_demo.corpus import prompt
from opera_demo.world import tasks


class Engine:
    """In the place of OpenRLHF's rollout actor: one continuation of token ids."""

    def __init__(self) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(model_path())
        self.model = AutoModelForCausalLM.from_pretrained(model_path(), dtype=torch.float32)

    async def generate(
        self, prompt_token_ids: list[int], sampling_params: Any, multi_modal_data: Any = None
    ) -> Any:
        """Sample like vLLM, whose answer has this shape."""
        assert multi_modal_data is None
        asked = torch.tensor([prompt_token_ids])
        found = self.model.generate(
            asked, do_sample=True, max_new_tokens=sampling_params.max_tokens, attention_mask=torch.ones_like(asked)
        )
        ids = found[0, len(prompt_token_ids) :].tolist()
        ended = "stop" if ids[-1] == self.model.generation_config.eos_token_id else "length"
        return SimpleNamespace(outputs=[SimpleNamespace(token_ids=ids, finish_reason=ended, logprobs=None)])


async def rollout(agent: AgentExecutor, engine: Engine, size: int, **task: str) -> list[dict[str, Any]]:
    """Do what OpenRLHF's `generate_responses` does: start all samples of a prompt at once."""
    parameters = SimpleNamespace(max_tokens=110, logprobs=None)
    asks = (
        agent.execute(task["prompt"], task["label"], parameters, 512, engine.tokenizer, engine)
        for _ in range(size)
    )
    return await asyncio.gather(*asks)


async def main() -> None:
    """Print a group a prompt: rewards, and what they are made of."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--url", default="http://127.0.0.1:8000")
    options.add_argument("--prompts", type=int, default=3)
    options.add_argument("--samples", type=int, default=4)
    given = options.parse_args()
    torch.manual_seed(0)
    agent, engine = AgentExecutor(given.url), Engine()
    for task in tasks("train", given.prompts):
        print(f"\n{task.question}\nreference: {task.reference}")
        for sample in await rollout(
            agent, engine, given.samples, prompt=prompt(task.question), label=task.reference
        ):
            logs = "  ".join(f"{name} {value:+.2f}" for name, value in sample["extra_logs"].items())
            print(f"reward {sample['reward']:+.3f}  score {sample['scores']:.2f}  {logs}")


if __name__ == "__main__":
    asyncio.run(main())
