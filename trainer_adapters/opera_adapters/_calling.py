"""One question to the service that always comes back: rewards, or None and the reason, inside its own deadline.

The failure policy of every adapter lives here. Knows the client; no trainer, no ranks.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from opera_adapters._grouping import Row, groups, wire_group
from opera_adapters._texts import USUAL, Tags, tags_of
from opera_client import AsyncRewardClient, ClientOptions, RewardClient
from opera_client.errors import InvalidRequest, NotSupported, OperaError, RequestError, WeightVersionMismatch
from opera_client.wire import Group, GroupResult, PresetInfo, RewardResult, TrajectoryResult

T = TypeVar("T")
log = logging.getLogger("opera_adapters")

MANY = 1_000_000
"""Retries: only the deadline ends them."""
GATED = "format_gate"
"""The flag of a response that is paid nothing, because its form is not the one that the reward asks for."""
UNFORMED = (
    "%d of the first %d responses are paid nothing (flag %s): they have no closed think block with an answer"
    " behind it. A model that thinks may be cut off: allow more new tokens. A model that does not think: set"
    " think.mode to optional or none in the reward's config, and the response itself is what is read"
)


@dataclass(frozen=True)
class Scored:
    """What became of a batch, row by row."""

    rows: list[TrajectoryResult | None]
    """None where nothing was scored."""
    diagnostics: dict[str, float] = field(default_factory=dict)
    """Means over groups."""
    problem: str | None = None
    """Why rows are missing; one of the reasons, when there are several."""
    components: tuple[str, ...] | None = None
    """Keys of every row's components; None when the service did not answer."""
    weight_version: str | None = None
    """Which weights scored; None when the service did not answer."""

    @property
    def rewards(self) -> list[float | None]:
        """Return one reward a row; None is no reward, which is not 0."""
        return [None if row is None else row.reward for row in self.rows]


class RewardCaller:
    """Scores rows with one reward definition.

    A failure is None, never 0. What no retry can heal (unknown preset, wrong key, a question that is refused as a
    whole) raises as long as nothing has been scored yet, since training would be in vain; later it is None, too.

    Args:
        url: the service's address; give it or a client.
        client: sync or async, e.g. one that runs in process. It stays in its process: it is not pickled.
        timeout_s: seconds for one batch, all retries included.
        options: further arguments of the client made from `url`, e.g. `{"api_key": …}`.
        fields: `reward`, `preset`, `config`, `run_id` of the request.
    """

    def __init__(
        self,
        url: str | None,
        client: AsyncRewardClient | RewardClient | None,
        *,
        timeout_s: float,
        options: ClientOptions,
        fields: Mapping[str, Any],
    ) -> None:
        if url is not None and client is not None:
            raise InvalidRequest("give the address or a client, not both", field="url")
        if not timeout_s > 0:
            raise InvalidRequest(f"must be more than 0 seconds, not {timeout_s}", field="timeout_s")
        self.timeout_s, self.fields = timeout_s, dict(fields)
        self._url, self._given = url, client
        self._made: AsyncRewardClient | None = None
        self._options: ClientOptions = {"retries": MANY, **options, "timeout": timeout_s}
        self._scored_before = False
        self._looked_at_form = False
        self._tags: Tags | None = None
        self._client()  # a wrong address is refused here and now

    def __getstate__(self) -> dict[str, Any]:
        """Return everything but the open client."""
        if self._given is not None:
            raise TypeError("a client cannot be sent to another process; give the service's url instead")
        return {**self.__dict__, "_made": None}

    def _client(self) -> AsyncRewardClient | RewardClient:
        if self._given is not None:
            return self._given
        if self._made is None:
            self._made = AsyncRewardClient(self._url, **self._options)
        return self._made

    async def score(
        self, rows: Sequence[Row], size: int | None, *, step: int | None, weight_version: str | None
    ) -> Scored:
        """Score `rows`, whole groups of `size`; see the class for what raises."""
        places = groups(rows, size)
        sendable = [group for group in places if any(rows[at].problem is None for at in group)]
        problem = next((row.problem for row in rows if row.problem is not None), None)
        found: list[TrajectoryResult | None] = [None] * len(rows)
        if not sendable:
            if not self._scored_before:
                raise InvalidRequest(f"no row can be sent, so training would be in vain: {problem}")
            return self._told(Scored(found, problem=problem))
        try:
            async with asyncio.timeout(self.timeout_s):
                written = await self._in_tags(rows)
                questions = [
                    wire_group(str(name), [written[at] for at in group]) for name, group in enumerate(sendable)
                ]
                answer = await self._ask(questions, step=step, weight_version=weight_version)
        except TimeoutError:
            return self._told(Scored(found, problem=f"no answer within timeout_s={self.timeout_s:g}"))
        except OperaError as error:
            if not self._scored_before and _hopeless(error):
                raise
            return self._told(Scored(found, problem=str(error)))
        for group, result in zip(sendable, answer.groups, strict=True):
            for one in result.trajectories:
                if one.status == "ok" and one.reward is not None:
                    found[group[int(one.id)]] = one
                elif one.error is not None:
                    problem = problem or f"{one.error.code}: {one.error.message}"
        self._scored_before |= any(row is not None for row in found)
        self._warn_of_form([row for row in found if row is not None])
        version = answer.model.weight_version
        return self._told(Scored(found, _means(answer.groups), problem, tuple(answer.components), version))

    async def _ask(self, questions: list[Group], *, step: int | None, weight_version: str | None) -> RewardResult:
        client = self._client()
        fields = {**self.fields, "detail": "reward", "step": step, "weight_version": weight_version}
        if isinstance(client, AsyncRewardClient):
            return await client.reward(questions, **fields)
        return await _in_thread(lambda: client.reward(questions, **fields))

    async def _in_tags(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Return the rows, thoughts of their own fields in the tags that the reward will look for."""
        if all(row.spoken is None for row in rows):
            return rows
        if self._tags is None:
            client = self._client()
            if isinstance(client, AsyncRewardClient):
                known, served = (await client.rewards()).rewards, await client.model()
            else:
                known, served = await _in_thread(lambda: (client.rewards().rewards, client.model()))
            presets = {one.name: one.presets for one in known}
            model = (served.think_open, served.think_close)
            self._tags = self._set_tags(presets) or (model if all(model) else USUAL)
        return [row.in_tags(self._tags) for row in rows]

    def _set_tags(self, presets: Mapping[str, Mapping[str, PresetInfo]]) -> Tags | None:
        """Return the tags that the reward's configuration or preset sets; of a sum, its first such term."""
        config = self.fields["config"]
        for term in config.get("rewards") or [{"name": self.fields["reward"], "config": config}]:
            preset = presets.get(term.get("name"), {}).get(term.get("preset") or self.fields["preset"])
            found = tags_of(term.get("config") or {}) or (tags_of(preset.config) if preset else None)
            if found is not None:
                return found
        return None

    def _warn_of_form(self, scored: Sequence[TrajectoryResult]) -> None:
        """Say once, of the first rows that were scored, when most of them are paid nothing for their form."""
        if self._looked_at_form or not scored:
            return
        self._looked_at_form = True
        gated = sum(GATED in row.flags for row in scored)
        if 2 * gated > len(scored):
            log.warning(UNFORMED, gated, len(scored), GATED)

    @staticmethod
    def _told(scored: Scored) -> Scored:
        missing = sum(row is None for row in scored.rows)
        if missing:
            log.warning("%d of %d completions have no reward: %s", missing, len(scored.rows), scored.problem)
        return scored


def _in_thread(call: Callable[[], T]) -> asyncio.Future[T]:
    """Call it in a thread that nobody waits for once the deadline has passed; `to_thread`'s are joined."""
    promise: concurrent.futures.Future[T] = concurrent.futures.Future()
    promise.set_running_or_notify_cancel()

    def work() -> None:
        try:
            promise.set_result(call())
        except BaseException as error:  # noqa: BLE001 (it is raised where the result is awaited)
            promise.set_exception(error)

    threading.Thread(target=work, daemon=True, name="opera-reward").start()
    return asyncio.wrap_future(promise)


def _hopeless(error: OperaError) -> bool:
    return isinstance(error, RequestError | NotSupported) and not isinstance(error, WeightVersionMismatch)


def _means(results: Sequence[GroupResult]) -> dict[str, float]:
    seen: dict[str, list[float]] = {}
    for result in results:
        for name, value in result.diagnostics.items():
            seen.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in seen.items()}
