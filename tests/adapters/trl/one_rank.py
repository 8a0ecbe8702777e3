"""One rank of a real GRPO training, started by torchrun: writes what its reward saw to FOLDER/RANK.json."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from tests.adapters.trl.test_grpo import Noted, dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from opera_adapters.trl import PolicySync
from opera_demo import model_path


def main(folder: Path, urls: list[str], arguments: dict[str, Any]) -> None:
    rank = int(os.environ["RANK"])
    torch.manual_seed(0)
    follow = arguments.pop("follow_policy", False)
    reward = Noted(urls[rank], timeout_s=20 if len(set(urls)) == 1 else 2, follow_policy=follow, run_id="ranks")
    trainer = GRPOTrainer(
        AutoModelForCausalLM.from_pretrained(model_path(), dtype=torch.float32),
        reward_funcs=reward,
        args=GRPOConfig(
            output_dir=str(folder), max_completion_length=32, logging_steps=1, save_strategy="no",
            report_to="none", use_cpu=True, bf16=False, seed=1, disable_tqdm=True, **arguments,
        ),
        train_dataset=dataset("conversational"),
        processing_class=AutoTokenizer.from_pretrained(model_path()),
        callbacks=[PolicySync(urls[rank], run_id="ranks")] if follow else [],
    )  # fmt: skip
    trainer.train()
    calls = [
        {name: call[name] for name in ("prompts", "completion_ids", "reference", "rewards", "step")}
        for call in reward.calls
    ]
    log = [entry for entry in trainer.state.log_history if "opera/scored" in entry]
    (folder / f"{rank}.json").write_text(json.dumps({"calls": calls, "log": log}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3]))
