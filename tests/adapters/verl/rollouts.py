"""verl's own V1 rollout on the CPU: its agent loop, its reward loop, its TransferQueue; only the engine is canned.

What `python -m verl.trainer.main_ppo` builds, without the workers that train.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import transfer_queue as tq
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf
from verl.experimental.reward_loop import RewardLoopManager, migrate_legacy_reward_impl
from verl.utils import tensordict_utils
from verl.utils.import_utils import load_class_from_fqn
from verl.workers.rollout.replica import TokenOutput

from opera_demo import model_path
from opera_demo.world import Task, tasks

BROKEN_ID = 10**6
"""No token of any vocabulary."""


def configuration(url: str, **changes: Any) -> DictConfig:
    """Return verl's configuration as its command line makes it, with our settings and `changes` (dots as `__`)."""
    overrides = [
        f"actor_rollout_ref.model.path={model_path()}",
        "actor_rollout_ref.rollout.name=vllm",
        "reward.reward_model.rollout.name=vllm",
        "transfer_queue.enable=True",
        "transfer_queue.backend.SimpleStorage.num_data_storage_units=1",
        "actor_rollout_ref.rollout.calculate_log_probs=True",
        "actor_rollout_ref.rollout.n=4",
        "actor_rollout_ref.rollout.val_kwargs.n=2",
        "actor_rollout_ref.rollout.agent.num_workers=2",
        "reward.num_workers=2",
        f"+reward.opera.url={url}",
    ]
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer", overrides)
    config = migrate_legacy_reward_impl(config)
    OmegaConf.set_struct(config, False)
    for name, value in changes.items():
        OmegaConf.update(config, name.replace("__", "."), value)
    return config


MANAGER = {
    "reward__reward_manager__source": "importlib",
    "reward__reward_manager__name": "OperaRewardManager",
    "reward__reward_manager__module__path": "pkg://opera_adapters.verl",
}
"""The reward manager route."""
GROUPS = {
    "actor_rollout_ref__rollout__agent__agent_loop_manager_class": "opera_adapters.verl.OperaAgentLoopManager",
    "reward__num_workers": 1,
}
"""The agent loop route."""


def asked() -> list[Task]:
    return tasks("train", 7)


def responses(task: Task) -> list[str]:
    """Four different answers: right, wrong, reflecting, and without a thought."""
    right, wrong = task.reference, task.sentence((task.answer + 1) % 20)
    return [
        f"<think>\nThere are {task.start}.\n\nWait, then {task.answer}.\n\n</think>\n\n{right}",
        f"<think>\nThere are {task.start}.\n\nBut no.\n\n</think>\n\n{wrong}",
        f"<think>\nLet me see. {task.answer}?\n\nHmm, {task.answer}.\n\nYes.\n\n</think>\n\n{right}",
        f"{wrong}",
    ]


class CannedEngine:
    """Stands where verl's LLMServerClient does; each worker has its own copy, and a prompt stays in one worker.

    No dataclass: hydra, which hands it to the agent loop, would take that for a configuration.

    Args:
        answers: by a piece of the prompt: what its sessions get, in the order of their calls.
        lost: a prompt of which one session's generation fails.
        ahead: a prompt that is answered by weights of step 90, all others by those of steps 3 and 4.
    """

    def __init__(
        self, answers: dict[str, list[list[int]]], *, lost: str | None = None, ahead: str | None = None
    ) -> None:
        self.answers, self.lost, self.ahead = answers, lost, ahead
        self.seen: Counter[str] = Counter()
        self.tokenizer: Any = None

    async def generate(self, request_id: str, *, prompt_ids: list[int], **_: Any) -> TokenOutput:
        from transformers import AutoTokenizer

        self.tokenizer = self.tokenizer or AutoTokenizer.from_pretrained(model_path())
        text = self.tokenizer.decode(prompt_ids)
        (piece,) = [piece for piece in self.answers if piece in text]
        at = self.seen[piece]
        self.seen[piece] += 1
        await asyncio.sleep(0.05 * (at % 3))
        if piece == self.lost and at == 1:
            raise RuntimeError("the engine lost this one")
        ids = self.answers[piece][at % len(self.answers[piece])]
        first, last = (90, 90) if piece == self.ahead else (3, 4)
        return TokenOutput(
            token_ids=ids, log_probs=[-0.5] * len(ids), stop_reason="completed",
            extra_fields={"min_global_steps": first, "max_global_steps": last},
        )  # fmt: skip


def canned(*, broken: int, **marks: int) -> CannedEngine:
    """Return an engine that answers every row of `asked`.

    Args:
        broken: the row of which one response has a token that is in no vocabulary.
        marks: arguments of the engine, by row.
    """
    answers = {task.question: encoded(responses(task)) for task in asked()}
    spoilt = answers[asked()[broken].question]
    spoilt[2] = [*spoilt[2][:-1], BROKEN_ID]
    return CannedEngine(answers, **{name: asked()[at].question for name, at in marks.items()})


@dataclass(frozen=True)
class Session:
    """What verl stored of one session."""

    prompt_ids: list[int]
    response_ids: list[int]
    reward: float
    info: Mapping[str, Any]
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Rolled:
    """A batch after the rollout."""

    uids: list[str]
    status: dict[str, str]
    sessions: dict[str, dict[int, Session]]


class World:
    """verl's managers for one configuration; needs `ray.init` and `tq.init` before."""

    def __init__(self, config: DictConfig, engine: CannedEngine) -> None:
        self.config = config
        self.rewards = RewardLoopManager(config)
        name = config.actor_rollout_ref.rollout.agent.get("agent_loop_manager_class")
        kind = load_class_from_fqn(name or "verl.trainer.ppo.v1.AgentLoopManagerTQ")
        self.loop = kind.create(
            config=config,
            llm_client=engine,
            teacher_client=None,
            reward_loop_worker_handles=self.rewards.reward_loop_worker_handles,
        )
        self._actors = [*self.rewards.reward_loop_workers, *self.loop.agent_loop_workers]
        ray.get([actor.__ray_ready__.remote() for actor in self._actors])

    def close(self) -> None:
        for actor in self._actors:
            ray.kill(actor)
        for partition, items in (tq.kv_list() or {}).items():
            tq.kv_clear(keys=list(items), partition_id=partition)

    def roll(self, rows: Sequence[Mapping[str, Any]], *, step: int, validate: bool = False) -> Rolled:
        """Do what the trainer does with a batch of dataset rows, until every prompt has a terminal status."""
        import numpy as np

        uids = [str(uuid.uuid4()) for _ in rows]
        columns: dict[str, Any] = {"uid": np.array(uids, dtype=object)}
        for name in rows[0]:
            column = np.empty(len(rows), dtype=object)
            column[:] = [row[name] for row in rows]
            columns[name] = column
        batch = tensordict_utils.get_tensordict(columns)
        tensordict_utils.assign_non_tensor_data(batch, "global_steps", step)
        if validate:
            tensordict_utils.assign_non_tensor_data(batch, "validate", True)
        partition = "val" if validate else "train"
        tags = [{"is_prompt": True, "status": "pending", "global_steps": step} for _ in rows]
        tq.kv_batch_put(keys=uids, partition_id=partition, tags=tags)
        self.loop.generate_sequences(batch)
        return collect(uids, partition)


def collect(uids: list[str], partition: str, patience_s: float = 120) -> Rolled:
    deadline = time.monotonic() + patience_s
    while True:
        items = tq.kv_list(partition_id=partition)[partition]
        status = {uid: items[uid]["status"] for uid in uids}
        if set(status.values()) <= {"finished", "failure"}:
            break
        assert time.monotonic() < deadline, status
        time.sleep(0.1)
    keys = [key for key in items if key not in status and key.split("_")[0] in status]
    sessions: dict[str, dict[int, Session]] = {uid: {} for uid in uids}
    if keys:
        names = ["prompts", "responses", "rm_scores", "extra_fields"]
        data = tq.kv_batch_get(keys=keys, partition_id=partition, select_fields=names)
        for key, prompt, response, scores, fields in zip(keys, *(data[name] for name in names), strict=True):
            uid, session, _ = key.split("_")
            own = getattr(fields, "data", fields)
            sessions[uid][int(session)] = Session(
                prompt.tolist(), response.tolist(), float(scores.sum()), own["reward_extra_info"], own
            )
    return Rolled(uids, status, sessions)


def row(task: Task, index: int, **changes: Any) -> dict[str, Any]:
    """Return a row as verl's RLHFDataset hands it over."""
    return {
        "raw_prompt": [{"role": "user", "content": task.question}],
        "data_source": "demo",
        "reward_model": {"style": "rule", "ground_truth": task.reference},
        "extra_info": {"index": index, "split": "train", "prompt": task.question},
        "index": index,
        **changes,
    }


def encoded(texts: Iterable[str]) -> list[list[int]]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_path())
    return [tokenizer.encode(text, add_special_tokens=False) for text in texts]


def checkout() -> Path:
    return Path(__file__).parents[3]
