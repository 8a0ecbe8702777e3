"""OPERA rewards where verl shows a reward one sample at a time: the service gathers the groups.

For any `reward.num_workers`: members of a group may be sent by different workers. Knows verl's reward managers and
its `compute_score`; who meets whom is the service's business.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from collections.abc import Mapping
from functools import cache
from typing import Any

import ray
from omegaconf import OmegaConf
from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase

from opera_adapters._calling import MANY
from opera_adapters.turns import masked
from opera_adapters.verl.answers import Told, told, written_by
from opera_adapters.verl.settings import OperaSettings, from_mapping, look_up, settings_of
from opera_client import AsyncRewardClient
from opera_client.errors import DeadlineExceeded, InvalidRequest


class MemberCaller:
    """Asks about one sample and waits for its group, inside `wait_s` + `timeout_s` seconds; failures raise."""

    def __init__(self, settings: OperaSettings) -> None:
        if settings.scorer_kl:
            raise InvalidRequest(
                "only OperaAgentLoopManager sees the rollout's log-probs", field="reward.opera.scorer_kl"
            )
        self.settings = settings
        self._deadline_s = settings.wait_s + settings.timeout_s
        self._client = AsyncRewardClient(settings.url, timeout=self._deadline_s, retries=MANY)

    async def __call__(self, member: Mapping[str, Any], *, written: tuple[int, int] | None) -> Told:
        """Return the sample's reward.

        Args:
            member: the fields of a wire `MemberRequest` that are not settings.
            written: the first and the last step whose weights wrote the sample, where known.
        """
        asked = {**self.settings.asked, "detail": "reward", "wait_s": self.settings.wait_s, **member}
        try:
            async with asyncio.timeout(self._deadline_s):
                answer = await self._client.member(asked)
        except TimeoutError:
            raise DeadlineExceeded(f"no reward within wait_s + timeout_s = {self._deadline_s:g} s") from None
        return told(
            answer,
            size=answer.group_size_seen,
            scored_by=answer.model.weight_version,
            written=written,
            settings=self.settings,
        )


class OperaRewardManager(RewardManagerBase):  # type: ignore[misc]  # verl has no types
    """For `reward.reward_manager`: source `importlib`, module `pkg://opera_adapters.verl`, the name of this class.

    A group is the `rollout.n` sessions of a `uid`, or `val_kwargs.n` where `extra_info.split` is not `train`.
    Sessions are named, so that the same one again gets the same answer and counts once.
    """

    def __init__(self, config: Any, tokenizer: Any, compute_score: Any, **_: Any) -> None:
        super().__init__(config, tokenizer, compute_score)
        self._ask = MemberCaller(settings_of(config))
        rollout = config.actor_rollout_ref.rollout
        self._sizes = {True: int(rollout.n), False: int(rollout.val_kwargs.n)}

    async def run_single(self, data: Any) -> dict[str, Any]:
        """Return verl's `reward_score` and `reward_extra_info` of the last sequence in `data`."""
        item = data[-1:][0]
        sample = {name: _plain(value) for name, value in item.non_tensor_batch.items()}
        missing = sorted({"uid", "session_id", "global_steps"} - set(sample))
        if missing:
            raise InvalidRequest(
                f"verl's data names no {', '.join(missing)}: OperaRewardManager needs trainer.use_v1=true",
                field=missing[0],
            )
        training = look_up(sample, "extra_info.split") in (None, "train")
        answer = await self._ask(
            {
                **self._texts(item.batch, sample),
                "group_id": f"{_run()}/{sample['uid']}",
                "group_size": self._sizes[training],
                "member_id": f"{sample['uid']}/{sample['session_id']}",
                "step": int(sample["global_steps"]),
                "reference": self._ask.settings.reference_of(sample),
                "task": self._ask.settings.task_of(sample),
            },
            written=written_by(sample.get("tool_extra_fields")),
        )
        return {"reward_score": answer.reward, "reward_extra_info": answer.info}

    def _texts(self, tensors: Any, sample: Mapping[str, Any]) -> dict[str, Any]:
        prompt_ids, response_ids = unpadded(tensors, sample)
        if self._ask.settings.send == "ids":
            mask = tensors.get("response_mask", None)
            own = None if mask is None else mask[: len(response_ids)].tolist()
            return {"prompt_token_ids": prompt_ids, **masked(response_ids, own)}
        response = self.tokenizer.decode(response_ids, skip_special_tokens=True)
        return {"prompt": list(sample["raw_prompt"]), "response": response}


def unpadded(tensors: Any, sample: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    """Return the ids of a prompt and of its response; verl pads on the right where it tells their lengths."""
    prompt, response = tensors["prompts"], tensors["responses"]
    if "prompt_len" in sample and "response_len" in sample:
        return prompt[: int(sample["prompt_len"])].tolist(), response[: int(sample["response_len"])].tolist()
    mask = tensors["attention_mask"].bool()
    return prompt[mask[: len(prompt)]].tolist(), response[mask[len(prompt) :]].tolist()


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any] | None = None,
    *,
    group_size: int,
    prompt_key: str = "prompt",
    opera: Mapping[str, Any] | None = None,
    **_: Any,
) -> dict[str, float | str]:
    """Score one sample for `reward.custom_reward_function`; verl shows it neither prompt nor group nor ids.

    So the dataset's `extra_info` must hold the prompt, under `prompt_key`, and `index`, unique in its split. Texts
    are scored. Prefer `OperaRewardManager`, which needs none of this.

    Args:
        data_source: verl's.
        solution_str: the response.
        ground_truth: the known good answer.
        extra_info: the dataset's, and what verl adds to it.
        group_size: `rollout.n`, see docs/trainers/verl.md.
        prompt_key: where `extra_info` holds the prompt, a text or a list of messages.
        opera: the keys of `reward.opera`.
    """
    row = dict(extra_info or {})
    for name in (prompt_key, "index"):
        if row.get(name) is None:
            raise InvalidRequest(
                f"the dataset's extra_info has no {name!r}, only {sorted(row)}; add it, or use OperaRewardManager",
                field=f"extra_info.{name}",
            )
    given = OmegaConf.to_container(opera, resolve=True) if OmegaConf.is_config(opera) else dict(opera or {})
    ask = _caller(json.dumps(given, sort_keys=True))
    sample = {"data_source": data_source, "reward_model": {"ground_truth": ground_truth}, "extra_info": row}
    prompt = row[prompt_key] if isinstance(row[prompt_key], str) else [dict(one) for one in row[prompt_key]]
    about = hashlib.sha256(json.dumps([prompt, ground_truth], default=str).encode()).hexdigest()[:16]
    answer = await ask(
        {
            "prompt": prompt,
            "response": solution_str,
            "reference": ask.settings.reference_of(sample),
            "task": ask.settings.task_of(sample),
            "group_id": f"{_run()}/{data_source}/{row.get('split')}/{row['index']}/{about}",
            "group_size": int(group_size),
            "member_id": uuid.uuid4().hex,
            "step": int(row.get("global_steps") or 0),
        },
        written=written_by(row),
    )
    return {"score": answer.reward, **answer.info}


@cache
def _caller(settings: str) -> MemberCaller:
    return MemberCaller(from_mapping(json.loads(settings)))


@cache
def _run() -> str:
    """Return a name that all workers of this run share and a resumed run does not: it may bring back old uids."""
    if not ray.is_initialized():
        return "local"
    context = ray.get_runtime_context()
    return f"{context.get_session_name()}/{context.get_job_id()}"


def _plain(value: Any) -> Any:
    """Return numpy's scalars as Python's."""
    return value.item() if getattr(value, "ndim", None) == 0 else value
