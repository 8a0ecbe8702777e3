"""On-policy self-distillation in TRL: a token's advantage is what knowing the reference changes about it.

    opera-reward serve &                                  # in another terminal
    pip install 'opera-reward[server,trl]'
    python examples/trl_self_distillation.py --url http://127.0.0.1:8000

The service prices each completion twice, behind the prompt and behind the prompt with the reference in it; all
completions of a prompt share both contexts. The difference, token by token, is the advantage: no reward, no group.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from opera_client import RewardClient
from opera_demo import model_path
from opera_demo.world import tasks

LARGEST = 2.0
"""Nats. No token counts for more: a single surprise must not be the whole gradient."""


class SelfDistillation(GRPOTrainer):
    """GRPO's loop and loss with an advantage of each token's own."""

    client: RewardClient

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        lengths = output["completion_mask"].sum(dim=1).tolist()
        own = output.get("tool_mask", output["completion_mask"])  # what tools said is fed, and not priced
        items = []
        for at, asked in enumerate(inputs):
            with_reference = [
                *asked["prompt"][:-1],
                {"role": "user", "content": f"{asked['prompt'][-1]['content']}\n(Answer: {asked['reference']})"},
            ]
            items.append(
                {
                    "context_token_ids": output["prompt_ids"][at][output["prompt_mask"][at].bool()].tolist(),
                    "target_token_ids": output["completion_ids"][at][: lengths[at]].tolist(),
                    "target_mask": own[at][: lengths[at]].int().tolist(),
                    "other_contexts": [{"name": "reference", "context": with_reference}],
                }
            )
        result = self.client.score(items, detail="tokens")
        advantages = torch.zeros(output["completion_ids"].shape)
        for at, item in enumerate(result.items):
            if item.other_contexts:  # an item that could not be scored has no advantage
                values = [value or 0.0 for value in item.other_contexts[0].token_differences or []]
                advantages[at, : len(values)] = torch.tensor(values).clamp(-LARGEST, LARGEST)
        self._metrics["train"]["opera/mean_difference"].append(float(advantages.sum() / own.sum()))
        output["advantages"] = advantages.to(output["completion_ids"].device)
        return output


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--url", default="http://127.0.0.1:8000")
    options.add_argument("--steps", type=int, default=5)
    options.add_argument("--out", default="out/trl_self_distillation")
    given = options.parse_args()

    dataset = Dataset.from_list(
        [
            {"prompt": [{"role": "user", "content": task.question}], "reference": task.reference}
            for task in tasks("train", 64)
        ]
    )
    trainer = SelfDistillation(
        AutoModelForCausalLM.from_pretrained(model_path(), dtype="float32"),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),  # TRL wants one; it is not used
        args=GRPOConfig(
            output_dir=given.out,
            max_steps=given.steps,
            per_device_train_batch_size=16,
            num_generations=8,
            max_completion_length=110,
            learning_rate=2e-4,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            bf16=False,
            disable_tqdm=True,
        ),
        train_dataset=dataset,
        processing_class=AutoTokenizer.from_pretrained(model_path()),
    )
    with RewardClient(given.url) as trainer.client:
        trainer.train()


if __name__ == "__main__":
    main()
