"""A reward function for trainers that hand it a batch of prompts and completions: TRL, and those that call alike.

The dataset needs the columns `prompt` and `reference`. Knows TRL's call shape, without importing TRL.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import fmean
from typing import Any, Literal, TypeVar

from opera_adapters import _ranks
from opera_adapters._calling import RewardCaller, Scored
from opera_adapters._grouping import Row, groups
from opera_adapters._texts import USUAL, has_thought, text_of
from opera_adapters._tool_mask import tool_mask
from opera_adapters._versions import weight_version
from opera_adapters.groups import filled
from opera_adapters.rollout_engines.trl import ColocatedVllm
from opera_adapters.turns import has_environment, masked, of_messages
from opera_client import AsyncRewardClient, ClientOptions, RewardClient
from opera_client.errors import InvalidRequest, Unavailable

MASK_COLUMN = "response_mask"
"""What a `rollout_func` of your own calls its mask, beside TRL's `env_mask`, which TRL keeps to itself."""
log = logging.getLogger("opera_adapters")
T = TypeVar("T")
Rewards = list[float | None]
Conversation = Sequence[Mapping[str, Any]]


class OperaReward:
    """A TRL reward function that asks an opera-reward service about whole groups.

    Rewards are None where the service gave none: TRL leaves such completions out. Every component is logged as
    `<name>/<component>`, with `<name>/scored`, the share of completions that have a reward.

    Args:
        url: the service's address; `OPERA_REWARD_URL` or http://127.0.0.1:8000 by default.
        client: instead of `url`, a client, e.g. `RewardClient.in_process()`. Cannot be pickled.
        score_on: `rollout` scores in this process, on the vLLM that GRPOTrainer samples with
            (`vllm_mode="colocate"`); `service` is a service's own model.
        num_generations: size of a group. GRPOTrainer and RLOOTrainer are asked for theirs, so it is needed only
            where the trainer cannot be seen; without it, completions of equal prompts are a group.
        reward, preset, config: which reward, as in `POST /reward`.
        reference_column: dataset column with the known good answer; None for a reward that reads no reference.
        task: `open`, or `math` for answers that are right or wrong.
        task_column: dataset column that says so row by row.
        send: `ids` scores the very tokens of the rollout, the scorer having the policy's tokenizer; `text` is for
            another model as scorer, and for trainers whose ids are padded (OnlineDPO).
        follow_policy: ask for weights of this training step only; `PolicySync` brings them.
        run_id: name of this run, for the service's logs and the names of weights.
        on_failure: `none` leaves completions without a reward out, as TRL's GRPO and RLOO read None. Where it is
            read as 0: `constant` gives them the mean of their group, no advantage, and 0 to a group without
            rewards (but raises where other ranks have a part of it); `raise` is for OnlineDPO, which has no such
            number.
        timeout_s: seconds for one batch with all retries. Other ranks wait meanwhile: stay well below the
            process group's own timeout (10 minutes with NCCL).
        name: what the trainer's logs call this reward.
        client_options: arguments of the client made from `url`, e.g. `{"api_key": …}`.

    Raises:
        OperaError: on a call, what no retry can heal (unknown preset, wrong key) before anything was scored; a
            dataset without the reference column; any failure with `on_failure="raise"`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        client: AsyncRewardClient | RewardClient | None = None,
        score_on: Literal["service", "rollout"] = "service",
        num_generations: int | None = None,
        reward: str = "opera",
        preset: str = "hardened",
        config: Mapping[str, Any] | None = None,
        reference_column: str | None = "reference",
        task: Literal["open", "math"] = "open",
        task_column: str | None = None,
        send: Literal["ids", "text"] = "ids",
        follow_policy: bool = False,
        run_id: str | None = None,
        on_failure: Literal["none", "constant", "raise"] = "none",
        timeout_s: float = 300.0,
        name: str = "opera",
        client_options: ClientOptions | None = None,
    ) -> None:
        if num_generations is not None and num_generations < 1:
            raise InvalidRequest(f"must be at least 1, not {num_generations}", field="num_generations")
        self.__name__ = name
        self.num_generations = num_generations
        self.reference_column, self.task, self.task_column = reference_column, task, task_column
        self.send, self.follow_policy, self.run_id = send, follow_policy, run_id
        self.on_failure = on_failure
        self._said = False
        if score_on == "rollout" and (url is not None or client is not None or follow_policy):
            raise InvalidRequest(
                "needs no url, client or follow_policy: the policy scores itself", field="score_on"
            )
        self._make_caller = partial(
            RewardCaller,
            timeout_s=timeout_s,
            options=client_options or {},
            fields={"reward": reward, "preset": preset, "config": dict(config or {}), "run_id": run_id},
        )
        self._on_rollout = score_on == "rollout"
        self._caller = None if self._on_rollout else self._make_caller(url, client)

    async def __call__(
        self,
        prompts: Sequence[str | Conversation],
        completions: Sequence[str | Conversation],
        completion_ids: Sequence[Sequence[int]] | None = None,
        *,
        trainer_state: Any = None,
        log_metric: Callable[[str, float], None] | None = None,
        log_extra: Callable[[str, list[Any]], None] | None = None,
        **columns: Any,
    ) -> Rewards:
        """Return one reward a completion, None where there is none. Arguments are TRL's."""
        trainer = getattr(log_metric, "__self__", None)
        size = self._group_size(trainer)
        self._check(columns)
        if self._caller is None:  # the trainer's vLLM is not there before its first call
            self._caller = self._make_caller(None, RewardClient.in_process(rollout=ColocatedVllm(trainer)))
        try:
            rows = self._rows(trainer, prompts, completions, completion_ids, columns)
        except Exception as error:  # noqa: BLE001 (whatever it is: the other ranks wait for this one's rows)
            problem = f"cannot be read: {type(error).__name__}: {error}"
            rows = [Row({}, {}, problem) for _ in prompts]
        before, after = _ranks.complete(rows, size)  # no await before it: the same order on all ranks
        step = getattr(trainer_state, "global_step", None)
        start = time.perf_counter()
        asked = [*before, *rows, *after]
        scored = await self._caller.score(asked, size, step=step, weight_version=self._weight_version(step))
        mine = range(len(before), len(before) + len(rows))
        own = Scored([scored.rows[at] for at in mine], scored.diagnostics)
        if self.on_failure == "raise" and None in own.rewards:
            raise Unavailable(f"{own.rewards.count(None)} of {len(rows)} completions: {scored.problem}")
        self._log(own, time.perf_counter() - start, log_metric, log_extra)
        self._say_what_is_lost(own)
        if self.on_failure == "constant":
            return [*filled(scored, groups(asked, size), mine)]
        return own.rewards

    def _group_size(self, trainer: Any) -> int | None:
        theirs = getattr(trainer, "num_generations", None)
        if theirs is None:
            return self.num_generations
        if self.num_generations not in (None, theirs):
            raise InvalidRequest(
                f"is {self.num_generations} here and {theirs} in the trainer; leave it out",
                field="num_generations",
            )
        model = getattr(trainer, "model", None)
        evaluating = model is not None and not model.training
        return int(getattr(trainer, "num_generations_eval", theirs) if evaluating else theirs)

    def _check(self, columns: Mapping[str, Any]) -> None:
        for column in filter(None, (self.reference_column, self.task_column)):
            if column not in columns:
                raise InvalidRequest(
                    f"the dataset has no column {column!r}, only {sorted(columns)}; name the right one, and set "
                    "remove_unused_columns=False",
                    field="reference_column" if column == self.reference_column else "task_column",
                )

    def _rows(
        self,
        trainer: Any,
        prompts: Sequence[str | Conversation],
        completions: Sequence[str | Conversation],
        completion_ids: Sequence[Sequence[int]] | None,
        columns: Mapping[str, Any],
    ) -> list[Row]:
        ids = completion_ids if self.send == "ids" else None
        asked = _templated(trainer, prompts) if ids is not None else None
        masks = columns.get(MASK_COLUMN)
        written = [
            self._written(
                trainer, completion, None if ids is None else ids[at], None if masks is None else masks[at]
            )
            for at, completion in enumerate(completions)
        ]
        as_messages = any("turns" in one for one in written)  # the template writes what stands between them
        rows = []
        for at, (prompt, completion, trajectory) in enumerate(zip(prompts, completions, written, strict=True)):
            question: dict[str, Any] = {"prompt_token_ids": asked[at]} if asked is not None else {}
            if asked is None or as_messages:
                question["prompt"] = prompt
            if self.reference_column is not None:
                question["reference"] = columns[self.reference_column][at]
            question["task"] = columns[self.task_column][at] if self.task_column else self.task
            spoken = completion if "response" in trajectory and has_thought(completion) else None
            rows.append(Row(question, trajectory, spoken=spoken).checked())
        return rows

    def _written(
        self, trainer: Any, completion: str | Conversation, ids: Sequence[int] | None, mask: Sequence[Any] | None
    ) -> dict[str, Any]:
        """Return the fields of a wire `Trajectory`: what tools said is context."""
        if ids is not None and mask is not None:
            return masked(ids, mask)
        if isinstance(completion, str) or not has_environment(completion):
            text = {"response": text_of(completion, USUAL)}
            return text if ids is None else {**text, "response_token_ids": list(ids)}
        found = None if ids is None else tool_mask(completion, ids, trainer)
        return of_messages(completion) if ids is None or found is None else masked(ids, found)

    def _weight_version(self, step: int | None) -> str | None:
        if self._on_rollout:  # those that sampled: TRL loads a step's weights right before its rollouts
            return None if step is None else str(step)
        return weight_version(self.run_id, step) if self.follow_policy and step is not None else None

    def _say_what_is_lost(self, scored: Scored) -> None:
        """Say once that these trainers take one number a completion: token weights and rewards have no place."""
        shapes = any(row and (row.token_weights or row.token_rewards) for row in scored.rows)
        if shapes and not self._said:
            self._said = True
            log.warning("the reward shapes tokens, which this trainer cannot take: only its number is used")

    def _log(
        self,
        scored: Scored,
        seconds: float,
        log_metric: Callable[[str, float], None] | None,
        log_extra: Callable[[str, list[Any]], None] | None,
    ) -> None:
        names = sorted({name for row in scored.rows if row and row.components for name in row.components})
        table = {
            name: [row.components.get(name) if row and row.components else None for row in scored.rows]
            for name in names
        }
        if log_extra is not None:
            for name, values in table.items():
                log_extra(f"{self.__name__}/{name}", values)
        if log_metric is None:
            return
        for name, values in table.items():
            log_metric(f"{self.__name__}/{name}", fmean(value for value in values if value is not None))
        for name, value in scored.diagnostics.items():
            log_metric(f"{self.__name__}/{name}", value)
        flags = [flag for row in scored.rows if row for flag in row.flags]
        for flag in sorted(set(flags)):
            log_metric(f"{self.__name__}/flag/{flag}", flags.count(flag) / len(scored.rows))
        log_metric(f"{self.__name__}/scored", sum(row is not None for row in scored.rows) / len(scored.rows))
        log_metric(f"{self.__name__}/seconds", seconds)


class Blocking:
    """`OperaReward` as a plain function, for trainers that await nothing: OnlineDPO, Tunix, TRL before 1.16."""

    def __init__(self, reward: OperaReward) -> None:
        self.reward = reward
        self.__name__ = reward.__name__

    def __call__(self, prompts: Any, completions: Any, completion_ids: Any = None, **columns: Any) -> Rewards:
        """Return the rewards; may be called inside a running event loop, e.g. in a notebook."""
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(
                lambda: asyncio.run(self.reward(prompts, completions, completion_ids, **columns))
            ).result()


def _templated(trainer: Any, prompts: Sequence[str | Conversation]) -> list[list[int]] | None:
    """Return the ids that the trainer's own tokenizer makes of the prompts; None when it cannot be seen.

    The same calls as GRPOTrainer's: its template, its template arguments, its tools, its special tokens.
    """
    tokenizer = getattr(trainer, "processing_class", None)
    if tokenizer is None or getattr(trainer, "_is_vlm", False):
        return None
    distinct, places = _once(prompts)
    if all(isinstance(prompt, str) for prompt in distinct):
        found = tokenizer(text=distinct)
    else:
        found = tokenizer.apply_chat_template(
            conversation=distinct,
            tools=getattr(trainer, "tools", None) or None,
            chat_template=getattr(trainer, "chat_template", None),
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            **(getattr(trainer, "chat_template_kwargs", None) or {}),
        )
    return [list(found["input_ids"][at]) for at in places]


def _once(prompts: Sequence[T]) -> tuple[list[T], list[int]]:
    """Return prompts without repeating neighbours, and the place of each: templating is slow."""
    distinct: list[T] = []
    places = []
    for prompt in prompts:
        if not distinct or prompt != distinct[-1]:
            distinct.append(prompt)
        places.append(len(distinct) - 1)
    return distinct, places
