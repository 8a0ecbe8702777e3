"""GRPO with OPERA rewards, at the size of a CPU: TRL trains the embedded model for a few steps.

    opera-reward serve &                                  # in another terminal
    pip install 'opera-reward[server,trl]'
    python examples/trl_grpo.py --url http://127.0.0.1:8000

For a real run change the model and the dataset (columns `prompt` and `reference`); the three lines that matter are
marked. docs/trainers/trl.md has the rest.
"""

from __future__ import annotations

import argparse

from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from opera_adapters.trl import OperaReward  # 1
from opera_demo import model_path
from opera_demo.world import tasks


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--url", default="http://127.0.0.1:8000")
    options.add_argument("--run-id", default="trl-grpo", help="its name in metrics and on the live page")
    options.add_argument("--steps", type=int, default=5)
    options.add_argument("--out", default="out/trl_grpo")
    given = options.parse_args()

    dataset = Dataset.from_list(
        [
            {"prompt": [{"role": "user", "content": task.question}], "reference": task.reference}  # 3
            for task in tasks("train", 64)
        ]
    )
    trainer = GRPOTrainer(
        AutoModelForCausalLM.from_pretrained(model_path(), dtype="float32"),
        reward_funcs=OperaReward(given.url, run_id=given.run_id),  # 2
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
    trainer.train()  # its log has every component, as opera/...


if __name__ == "__main__":
    main()
