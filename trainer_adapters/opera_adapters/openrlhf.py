"""OPERA rewards in OpenRLHF: an agent executor that asks about whole groups, by the rollout's own ids.

The file for `--train.agent_func_path` derives its `AgentExecutor` from this one, see examples/openrlhf_agent.py.
Knows OpenRLHF's executor protocol; generation is OpenRLHF's, scoring the service's.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from opera_adapters._missing import need
from opera_adapters.groups import GroupMember, GroupReward
from opera_adapters.hinting import CallHints, HintingEngine
from opera_adapters.rollout_engines.openrlhf import ActorVllm
from opera_adapters.turns import of_ranges
from opera_client import AsyncRewardClient
from opera_client.errors import InvalidRequest, NotSupported

need("openrlhf", "openrlhf")
from openrlhf.utils.agent import AgentExecutorBase, SingleTurnAgentExecutor  # noqa: E402

_OF_A_HINT = ("reward", "preset", "config", "run_id")
"""Options that a hint has, too."""


@dataclass
class _Group:
    """The samples of one prompt that one call of `generate_responses` asks for."""

    weights: str | None
    """Which weights began to sample; None where they are not known."""
    samples: list[dict[str, Any] | None] = field(default_factory=list)
    """None until, or unless, it was generated."""
    generating: int = 0
    generated: asyncio.Event = field(default_factory=asyncio.Event)
    members: asyncio.Task[dict[int, GroupMember]] | None = None
    """By place in `samples`."""


class AgentExecutor(AgentExecutorBase):  # type: ignore[misc]  # OpenRLHF has no types
    """OpenRLHF's generation, rewarded group by group: one request a group, however many samples it has.

    A group is what `generate_responses` starts together, in training and in evaluation, so its size need not be
    told, and no group waits for samples that do not come. Failures are constants, see `GroupReward`.

    Args:
        url: the service's address; `OPERA_REWARD_URL` or http://127.0.0.1:8000 by default.
        score_on: `rollout` scores in this process, on the vLLM that sampled; it needs
            `--vllm.enable_prefix_caching`. `service` is a service's own model.
        moved_weights: whether samples that other weights began than those that would score them, as happens in
            asynchronous training, are refused or scored all the same; for `score_on="rollout"`.
        task: `open`, or `math` for answers that are right or wrong.
        send: `ids` scores the very tokens of the rollout, the scorer having the policy's tokenizer; `text` is for
            another model as scorer, and for single turns only.
        rollout: what generates: OpenRLHF's executor of single turns, or `MultiTurnAgentExecutor(YourAgent)`, whose
            rewards are replaced; what its environment says is context.
        hints: tell the service after every step what was written, so that it works ahead; it changes no reward,
            and is of use where the service keeps what it computes (docs/hints.md).
        options: the further arguments of `GroupReward`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        score_on: Literal["service", "rollout"] = "service",
        moved_weights: Literal["refuse", "accept"] = "refuse",
        task: Literal["open", "math"] = "open",
        send: Literal["ids", "text"] = "ids",
        rollout: AgentExecutorBase | None = None,
        hints: bool = False,
        **options: Any,
    ) -> None:
        if score_on == "rollout" and (url is not None or "client" in options or send != "ids"):
            raise InvalidRequest("needs no url and no client, and scores the rollout's ids", field="score_on")
        if hints and (score_on == "rollout" or send != "ids" or "client" in options):
            raise InvalidRequest("are of use to a service at a url that scores ids", field="hints")
        self._about = {name: value for name, value in options.items() if name in _OF_A_HINT}
        self._hinted = AsyncRewardClient(url, **options.get("client_options", {})) if hints else None
        self.task, self.send, self.moved_weights = task, send, moved_weights
        self._rollout = rollout or SingleTurnAgentExecutor()
        self._make_reward = partial(GroupReward, **options)
        self._reward = self._make_reward(url=url) if score_on == "service" else None
        self._vllm: ActorVllm | None = None
        self._gathering: dict[tuple[int, str, str], _Group] = {}
        self._names = itertools.count()

    async def execute(
        self,
        prompt: str,
        label: str,
        sampling_params: Any,
        max_length: int,
        hf_tokenizer: Any,
        llm_engine: Any,
        images: Any = None,
    ) -> dict[str, Any]:
        """Return OpenRLHF's sample with `reward`, `scores` and `extra_logs`, once its group is scored."""
        if images:
            raise NotSupported("opera_adapters.openrlhf scores text; prompts with images have no reward")
        if self._reward is None:
            self._vllm = ActorVllm(llm_engine)
            self._reward = self._make_reward(client=AsyncRewardClient.in_process(rollout=self._vllm))
        # The samples of one call share this very object, and every call has one of its own.
        key = (id(sampling_params), prompt, label)
        weights = None if self._vllm is None else self._vllm.weight_version
        group = self._gathering.setdefault(key, _Group(weights))
        place = len(group.samples)
        group.samples.append(None)
        group.generating += 1
        async with self._telling(label, llm_engine) as engine:  # until the reward is there: others may still write
            try:
                await asyncio.sleep(0)  # the call starts all its samples at once: now they are all here
                if self._gathering.get(key) is group:
                    del self._gathering[key]
                sample: dict[str, Any] = await self._rollout.execute(
                    prompt, label, sampling_params, max_length, hf_tokenizer, engine
                )
                group.samples[place] = sample
            finally:
                group.generating -= 1
                if not group.generating and any(group.samples):
                    group.members = asyncio.create_task(self._members(group, hf_tokenizer))
                    group.generated.set()
            await group.generated.wait()
            assert group.members is not None
            member = (await asyncio.shield(group.members))[place]
        sample.update(reward=member.reward, scores=member.score, extra_logs=member.logs)
        return sample

    @asynccontextmanager
    async def _telling(self, label: str, engine: Any) -> AsyncIterator[Any]:
        """Give an engine whose calls the service is told of, where hints are wanted."""
        if self._hinted is None:
            yield engine
            return
        name = f"{id(self)}/{next(self._names)}"
        about = {**self._about, "reference": label, "task": self.task, "detail": "reward"}
        hints = CallHints(self._hinted, **about, group_id=name, member_id=name)
        try:
            yield HintingEngine(engine, hints)
        finally:
            await hints.aclose()

    async def _members(self, group: _Group, tokenizer: Any) -> dict[int, GroupMember]:
        samples = {place: sample for place, sample in enumerate(group.samples) if sample is not None}
        first = next(iter(samples.values()))
        question: dict[str, Any] = {"reference": first["label"], "task": self.task}
        if self.send == "ids":
            start = first["action_ranges"][0][0] if first["action_ranges"] else None  # no budget to write anything
            question["prompt_token_ids"] = first["observation_tokens"][:start]
        else:
            question["prompt"] = first["prompt"]
        trajectories = [self._trajectory(one, tokenizer) for one in samples.values()]
        wanted = group.weights if self.moved_weights == "refuse" else None
        assert self._reward is not None
        answers = await self._reward(question, trajectories, weight_version=wanted)
        return dict(zip(samples, answers, strict=True))

    def _trajectory(self, sample: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
        found = of_ranges(sample["observation_tokens"], sample["action_ranges"])
        if "response_mask" in found:
            if self.send == "text":
                raise NotSupported("several turns are scored by the rollout's ids only; leave `send` out")
            return found
        text = {"response": tokenizer.decode(found["response_token_ids"], skip_special_tokens=True)}
        return text | (found if self.send == "ids" else {})
