"""verl's agent loop with OPERA rewards: all sessions of a prompt run in one worker, so a group is one request.

Generation, training and bookkeeping are verl's, scoring the service's. Leans on what verl 0.9 calls private
(`_run_prompt`, `_run_agent_loop`, `_compute_score`); other versions are refused.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextvars import ContextVar
from importlib.metadata import version
from typing import Any

import ray
from verl.trainer.ppo.v1 import AgentLoopManagerTQ, AgentLoopWorkerTQ

from opera_adapters._calling import RewardCaller, Scored
from opera_adapters._grouping import Row
from opera_adapters.hinting import HintingClient, own_hints
from opera_adapters.rollout_engines.verl import ReplicasVllm
from opera_adapters.shaping import arrays_of
from opera_adapters.turns import masked, steps_of
from opera_adapters.verl.answers import Told, told, written_by
from opera_adapters.verl.drift import Drift
from opera_adapters.verl.group import PromptGroup
from opera_adapters.verl.hints import hints_of
from opera_adapters.verl.settings import OperaSettings, settings_of
from opera_client import AsyncRewardClient
from opera_client.errors import InvalidRequest, NotSupported, OperaError, Unavailable

TESTED = "0.9."

Session = tuple[Any, Mapping[str, Any]]
"""verl's output of an agent loop, and the fields of the sample."""

_own_group: ContextVar[PromptGroup[Session, Told]] = ContextVar("opera_group")


class OperaAgentLoopWorker(AgentLoopWorkerTQ.__ray_metadata__.modified_class):  # type: ignore[misc]
    """Runs a prompt's sessions side by side and asks about all of them at once.

    A session that fails before its reward is not waited for; the others are a group without it. An agent loop that
    sets a reward itself keeps it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._settings = settings_of(self.config)
        client = None
        if self._settings.score_on == "rollout":
            self.llm_client: Any = own_engine(self.llm_client, self.config, self._settings)
            client = AsyncRewardClient.in_process(rollout=self.llm_client)
        self._hinted: AsyncRewardClient | None = None
        if self._settings.hints:
            self._hinted = AsyncRewardClient(self._settings.url)
            self.llm_client = HintingClient(self.llm_client)
        self._caller = RewardCaller(
            self._settings.url,
            client,
            timeout_s=self._settings.timeout_s,
            options={},
            fields=self._settings.asked,
        )
        self._drift = Drift(self._settings) if self._settings.scorer_kl else None

    async def _run_prompt(
        self,
        prompt: dict[str, Any],
        sampling_params: dict[str, Any],
        trajectory: dict[str, Any],
        trace: bool = False,
    ) -> None:
        rollout = self.config.actor_rollout_ref.rollout
        usual = rollout.val_kwargs.n if trajectory["validate"] else rollout.n
        _own_group.set(PromptGroup(int(prompt.get("__rollout_n__", usual)), self._ask))  # the sessions inherit it
        await super()._run_prompt(prompt, sampling_params, trajectory, trace)

    async def _run_agent_loop(self, *args: Any, session_id: int, **kwargs: Any) -> Any:
        hints = None if self._hinted is None else hints_of(self._hinted, self._settings, kwargs, session_id)
        own_hints.set(hints)  # of this session's own task
        try:
            return await super()._run_agent_loop(*args, session_id=session_id, **kwargs)
        finally:
            _own_group.get().leave(session_id)
            if hints is not None:
                await hints.aclose()

    async def _compute_score(self, outputs: list[Any], kwargs: dict[str, Any]) -> None:
        output = outputs[-1]  # verl rewards the last one and shares its reward
        if output.reward_score is not None:
            return
        start = time.perf_counter()
        answer = await _own_group.get().answer(kwargs["session_id"], (output, kwargs))
        output.metrics.compute_score = time.perf_counter() - start
        output.reward_score = answer.reward
        output.extra_fields["reward_extra_info"] = answer.info
        output.extra_fields["opera_step_rewards"] = [list(step) for step in answer.steps]
        if answer.arrays is not None:
            output.extra_fields["opera_token_weights"], output.extra_fields["opera_token_rewards"] = answer.arrays

    async def _ask(self, sessions: Mapping[int, Session]) -> dict[int, Told | OperaError]:
        rows = [self._row(output, sample).checked() for output, sample in sessions.values()]
        if len({row.key for row in rows}) > 1:
            raise NotSupported("the sessions of a prompt began with different tokens; they are no group")
        step = int(next(iter(sessions.values()))[1]["global_steps"])
        start = time.monotonic()
        scored = await self._caller.score(rows, len(rows), step=step, weight_version=None)
        metrics = await self._metrics([output for output, _ in sessions.values()], scored, start)
        answers: dict[int, Told | OperaError] = {}
        for (session, (output, _)), result, more in zip(sessions.items(), scored.rows, metrics, strict=True):
            try:
                if result is None:
                    raise Unavailable(f"the trajectory has no reward: {scored.problem}")
                answer = told(
                    result,
                    size=sum(row is not None for row in scored.rows),
                    scored_by=scored.weight_version or "",
                    written=written_by(output.extra_fields),
                    settings=self._settings,
                )
                steps = steps_of(result, len(output.response_ids))
                arrays = arrays_of(result, len(output.response_ids))
                answers[session] = Told(answer.reward, {**answer.info, **more}, steps, arrays)
            except OperaError as error:
                answers[session] = error
        return answers

    async def _metrics(self, outputs: list[Any], scored: Scored, start: float) -> list[dict[str, float]]:
        """Return what is measured beside the rewards, within the same deadline; nothing where there is none."""
        if self._drift is None or scored.weight_version is None:
            return [{} for _ in outputs]
        left = max(self._settings.timeout_s - (time.monotonic() - start), 0.0)
        found = await self._drift(outputs, scored_by=scored.weight_version, timeout_s=left)
        return [{"opera/scorer_kl": one} for one in found]

    def _row(self, output: Any, sample: Mapping[str, Any]) -> Row:
        if any((output.multi_modal_data or {}).values()):
            raise NotSupported(
                "opera_adapters.verl scores text; prompts with images, video or sound have no reward"
            )
        settings = self._settings
        question: dict[str, Any] = {"task": settings.task_of(sample)}
        if settings.reference is not None:
            question["reference"] = settings.reference_of(sample)
        if settings.send == "text":
            text = self.tokenizer.decode(output.response_ids, skip_special_tokens=True)
            return Row({**question, "prompt": list(sample["raw_prompt"])}, {"response": text})
        return Row(
            {**question, "prompt_token_ids": list(output.prompt_ids)},
            masked(output.response_ids, output.response_mask),
        )


class OperaAgentLoopManager(AgentLoopManagerTQ):  # type: ignore[misc]  # verl has no types
    """For `+actor_rollout_ref.rollout.agent.agent_loop_manager_class`; settings are under `+reward.opera`.

    Raises:
        NotSupported: another verl than 0.9.
        InvalidRequest: settings that cannot be.
    """

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        installed = version("verl")
        if not installed.startswith(TESTED):
            raise NotSupported(
                f"OperaAgentLoopManager knows verl {TESTED}x, not {installed}; use OperaRewardManager"
            )
        if config.reward.reward_model.enable:
            raise InvalidRequest("would overwrite these rewards", field="reward.reward_model.enable")
        settings = settings_of(config)
        if settings.scorer_kl and not config.actor_rollout_ref.rollout.calculate_log_probs:
            raise InvalidRequest(
                "must be true: reward.opera.scorer_kl compares the rollout's log-probs",
                field="actor_rollout_ref.rollout.calculate_log_probs",
            )
        _check(settings)
        super().__init__(config, *args, **kwargs)
        self.agent_loop_workers_class = ray.remote(OperaAgentLoopWorker)


def own_engine(client: Any, config: Any, settings: OperaSettings) -> ReplicasVllm:
    """Return verl's client as what samples and scores. Raises InvalidRequest for a rollout that cannot score."""
    rollout, where = config.actor_rollout_ref.rollout, "actor_rollout_ref.rollout"
    for field, needed in (("name", "vllm"), ("enable_prefix_caching", True), ("full_determinism", False)):
        if rollout.get(field, needed) != needed:
            raise InvalidRequest(f"must be {needed}: reward.opera.score_on=rollout", field=f"{where}.{field}")
    return ReplicasVllm(
        client,
        model=config.actor_rollout_ref.model.path,
        dtype=rollout.dtype,
        max_model_len=int(rollout.get("max_model_len") or rollout.prompt_length + rollout.response_length),
        run_id=settings.run_id,
    )


def _check(settings: OperaSettings) -> None:
    """Refuse on the driver what would fail in every worker."""
    RewardCaller(settings.url, None, timeout_s=settings.timeout_s, options={}, fields=settings.asked)
