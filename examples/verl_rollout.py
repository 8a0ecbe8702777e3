"""verl's rollout with OPERA rewards, at the size of a CPU: its dataset, agent loop and TransferQueue, for real.

    opera-reward serve &                                  # in an environment of its own, see docs/trainers/verl.md
    python examples/verl_rollout.py --url http://127.0.0.1:8000          # in verl's

The embedded model writes with plain transformers where verl starts vLLM, and nothing is trained: that needs GPUs
and examples/verl_grpo.sh. `--route members` takes the reward manager instead of the agent loop.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import pandas
import ray
import torch
import transfer_queue
from hydra import compose, initialize_config_module
from verl.experimental.reward_loop import RewardLoopManager, migrate_legacy_reward_impl
from verl.trainer.ppo.utils import create_rl_dataset
from verl.utils import hf_tokenizer, tensordict_utils
from verl.utils.dataset.rl_dataset import collate_fn
from verl.utils.import_utils import load_class_from_fqn
from verl.workers.rollout.replica import TokenOutput

from opera_demo import model_path
from opera_demo.world import tasks

ROUTES = {
    "groups": [
        "+actor_rollout_ref.rollout.agent.agent_loop_manager_class=opera_adapters.verl.OperaAgentLoopManager",
        "+reward.opera.scorer_kl=true",
    ],
    "members": [
        "reward.reward_manager.source=importlib",
        "reward.reward_manager.name=OperaRewardManager",
        "reward.reward_manager.module.path=pkg://opera_adapters.verl",
    ],
}


class Engine:
    """Samples from the embedded model, in the place of verl's client of rollout servers."""

    def __init__(self) -> None:
        self.model: Any = None

    async def generate(self, request_id: str, *, prompt_ids: list[int], **_: Any) -> TokenOutput:
        """Return one sampled response."""
        if self.model is None:
            from transformers import AutoModelForCausalLM

            self.model = AutoModelForCausalLM.from_pretrained(model_path(), dtype=torch.float32)
        torch.manual_seed(int(request_id[:8], 16))
        ids = torch.tensor([prompt_ids])
        written = self.model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=True, max_new_tokens=110,
            output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
        sampled = written.sequences[0, ids.shape[1] :].tolist()
        logprobs = torch.cat(written.logits).log_softmax(-1)[range(len(sampled)), sampled]
        steps = {"min_global_steps": 0, "max_global_steps": 0}
        return TokenOutput(
            token_ids=sampled, log_probs=logprobs.tolist(), stop_reason="completed", extra_fields=steps
        )


def write_dataset(path: Path, count: int) -> None:
    """Write a dataset as verl reads it: `reward_model.ground_truth` is the known good answer."""
    rows = [
        {
            "data_source": "little-world",
            "prompt": [{"role": "user", "content": task.question}],
            "reward_model": {"style": "rule", "ground_truth": task.reference},
            "extra_info": {"index": index, "split": "train"},
        }
        for index, task in enumerate(tasks("train", count))
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    pandas.DataFrame(rows).to_parquet(path)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--url", default="http://127.0.0.1:8000")
    options.add_argument("--route", choices=list(ROUTES), default="groups")
    options.add_argument("--prompts", type=int, default=2)
    options.add_argument("--out", type=Path, default=Path("out/verl"))
    given = options.parse_args()

    train = given.out / "train.parquet"
    write_dataset(train, given.prompts)
    overrides = [
        f"actor_rollout_ref.model.path={model_path()}",
        "actor_rollout_ref.rollout.name=vllm",  # named, not started
        "reward.reward_model.rollout.name=vllm",
        "actor_rollout_ref.rollout.n=4",
        "actor_rollout_ref.rollout.calculate_log_probs=True",
        "actor_rollout_ref.rollout.agent.num_workers=1",
        "reward.num_workers=1",
        f"data.train_files={train}",
        "data.filter_overlong_prompts=False",
        "transfer_queue.enable=True",
        "transfer_queue.backend.SimpleStorage.num_data_storage_units=1",
        f"+reward.opera.url={given.url}",
        *ROUTES[given.route],
    ]
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = migrate_legacy_reward_impl(compose("ppo_trainer", overrides))

    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    ray.init(num_cpus=16, include_dashboard=False, object_store_memory=200 * 2**20)
    transfer_queue.init(config.transfer_queue)
    named = config.actor_rollout_ref.rollout.agent.get("agent_loop_manager_class")
    manager = load_class_from_fqn(named or "verl.trainer.ppo.v1.AgentLoopManagerTQ").create(
        config=config,
        llm_client=Engine(),
        reward_loop_worker_handles=RewardLoopManager(config).reward_loop_worker_handles,
    )

    dataset = create_rl_dataset(config.data.train_files, config.data, hf_tokenizer(str(model_path())), None)
    rows = collate_fn([dataset[at] for at in range(given.prompts)])
    uids = [f"prompt{at}" for at in range(given.prompts)]
    batch = tensordict_utils.get_tensordict({**rows, "uid": uids})
    tensordict_utils.assign_non_tensor_data(batch, "global_steps", 1)
    tags = [{"is_prompt": True, "status": "pending", "global_steps": 1} for _ in uids]
    transfer_queue.kv_batch_put(keys=uids, partition_id="train", tags=tags)
    manager.generate_sequences(batch)

    items = transfer_queue.kv_list(partition_id="train")["train"]
    while not all(items[uid]["status"] in ("finished", "failure") for uid in uids):
        time.sleep(0.5)
        items = transfer_queue.kv_list(partition_id="train")["train"]
    keys = sorted(key for key in items if key not in uids)
    found = transfer_queue.kv_batch_get(
        keys=keys, partition_id="train", select_fields=["rm_scores", "extra_fields"]
    )
    for uid in uids:
        print(uid, items[uid]["status"])
    for key, scores, fields in zip(keys, found["rm_scores"], found["extra_fields"], strict=True):
        info = getattr(fields, "data", fields)["reward_extra_info"]
        print(f"{key}  reward {float(scores.sum()):+.3f} ", {name: info[name] for name in sorted(info)})
    transfer_queue.close()
    ray.shutdown()


if __name__ == "__main__":
    main()
