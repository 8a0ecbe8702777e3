"""The client, asynchronous: typed questions, cut into chunks, asked side by side, merged into one answer.

All logic is here; `RewardClient` only drives it from a thread. Knows the wire, never the service's code.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from itertools import accumulate
from typing import Any, Self, TypeVar

import httpx

from opera_client._checks import check_expand, check_rank, check_reward, check_score
from opera_client._chunks import cut, in_order, merge, shift, shift_field
from opera_client._connection import Connection
from opera_client._hints import HintCalls
from opera_client._http import ask
from opera_client._in_process import App, running, service_app
from opera_client._options import DEFAULT_TIMEOUT, DEFAULT_URL, ClientOptions, request_headers
from opera_client._parse import Item, Request, item_of, items_of, plain_json, request_of
from opera_client._policy import PolicyCalls
from opera_client._progress import progress_bar
from opera_client._retry import Backoff, Deadline
from opera_client._routing import GROUP_HEADER, group_route
from opera_client.errors import InvalidRequest, OperaError
from opera_client.network import address, http_client
from opera_client.wire import (
    Detail,
    ExpandItem,
    ExpandRequest,
    ExpandResult,
    Group,
    Health,
    MemberRequest,
    MemberResult,
    RankItem,
    RankRequest,
    RankResult,
    RewardRequest,
    RewardResult,
    RewardsInfo,
    ScoreItem,
    ScoreRequest,
    ScoreResult,
    ServedModel,
    WeightedReward,
)

Result = TypeVar("Result", RewardResult, RankResult, ExpandResult, ScoreResult)

Info = TypeVar("Info", RewardsInfo, ServedModel, Health)


class AsyncRewardClient(PolicyCalls, HintCalls):
    """Ask an opera-reward service for rewards, rankings and log-probabilities.

    Groups and items are wire models or plain dicts of the same form. A call is cut into requests of at most
    `max_items` groups (items) and about `max_bytes` bytes; at most `concurrency` of them are in flight. The
    answer is in the order of the question, or the call raises: nothing is lost, reordered, or priced by two
    weight versions. One bad trajectory is no reason to raise: it carries its own `error`.

    Args:
        url: the service's address; `OPERA_REWARD_URL` or http://127.0.0.1:8000 by default.
        api_key: sent as `Authorization: Bearer`; `OPERA_API_KEY` by default.
        headers: sent with every request.
        timeout: seconds for one call with all its chunks and retries; an hour by default, None for no limit.
            The service is told, and drops what it cannot finish in time.
        retries: failed attempts of one request that are repeated. Answers that say `Retry-After` do not
            count: those are bounded by `timeout` alone.
        max_items: groups or items in one request.
        max_bytes: approximate JSON size of one request.
        concurrency: requests in flight at a time.
        transport: an httpx transport to use instead of the network.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = DEFAULT_TIMEOUT,
        retries: int = 8,
        max_items: int = 16,
        max_bytes: int = 1_000_000,
        concurrency: int = 8,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        for name, number in (("max_items", max_items), ("max_bytes", max_bytes), ("concurrency", concurrency)):
            if not isinstance(number, int) or number < 1:
                raise InvalidRequest(f"must be at least 1, not {number!r}", field=name)
        if timeout is not None and not (isinstance(timeout, int | float) and timeout > 0):
            raise InvalidRequest(f"must be more than 0 seconds, not {timeout!r}", field="timeout")
        self.url = address(url or os.environ.get("OPERA_REWARD_URL") or DEFAULT_URL)
        self._headers = request_headers(headers, api_key)
        self._timeout, self._backoff = timeout, Backoff(retries=retries)
        self._max_items, self._max_bytes, self._concurrency = max_items, max_bytes, concurrency
        self._connection = Connection(lambda: self._connected(transport, concurrency + 1), movable=True)
        # Members wait for one another: a limit on how many may wait would keep the last of a group out for ever.
        self._crowd = Connection(lambda: self._connected(transport, None), movable=True)

    @classmethod
    def in_process(
        cls,
        app: App | None = None,
        /,
        *,
        options: ClientOptions | None = None,
        rollout: Any = None,
        **settings: Any,
    ) -> Self:
        """Run the service's own app inside this process, without a port: same code, same numbers.

        The app starts with the first call (or on entering `async with`) and stops with `aclose`.

        Args:
            app: an ASGI app to run instead of the service's.
            options: arguments of the class, e.g. `{"timeout": 60}`.
            rollout: the vLLM that a trainer samples with (`opera_vllm.asking.RolloutVllm`); it scores instead of
                an engine of the service's own.
            settings: the service's settings, as `opera-reward serve` has them, e.g. `engine="dummy"`.

        Raises:
            NotSupported: on first use, when the service's dependencies are not installed.
        """
        client = cls("http://in-process", **(options or {}))

        @asynccontextmanager
        async def connect() -> AsyncIterator[httpx.AsyncClient]:
            async with (
                running(app or service_app(settings, rollout)) as transport,
                client._connected(transport, None) as http,
            ):
                yield http

        client._connection = client._crowd = Connection(connect, movable=False)
        return client

    async def reward(
        self,
        groups: Iterable[Group | Mapping[str, Any]],
        *,
        reward: str | None = None,
        rewards: Sequence[WeightedReward | Mapping[str, Any]] | None = None,
        preset: str = "hardened",
        config: Mapping[str, Any] | None = None,
        detail: Detail = "segments",
        weight_version: str | None = None,
        run_id: str | None = None,
        step: int | None = None,
        request_id: str | None = None,
        progress: bool = False,
    ) -> RewardResult:
        """Reward whole groups; the answer is in their order.

        Args:
            groups: what to score; a group without `group_id` is named by its position.
            reward: name in the registry, see `rewards()`; `opera` by default.
            rewards: in place of `reward` and `config`: a weighted sum of several, computed on one tree.
            preset: named configuration of that reward.
            config: single fields of the preset to override.
            detail: how much of the way to the number to return: `reward`, `segments` or `tokens`.
            weight_version: refuse when the service has other weights loaded.
            run_id: name of the training run, for the service's running means and logs.
            step: the run's step, for the logs.
            request_id: sent as `X-Request-Id`, with the chunk's number behind it when there are several.
            progress: show a progress bar when stderr is a terminal.

        Raises:
            OperaError: nothing is returned; the error's `code` says why, its message what to do.
        """
        fields = {
            "preset": preset, "config": plain_json(config or {}, "config"), "detail": detail,
            "weight_version": weight_version, "run_id": run_id, "step": step,
            **({} if reward is None else {"reward": reward}),
            **({} if rewards is None else {"rewards": rewards}),
        }  # fmt: skip
        batch = items_of(Group, groups, "groups", id_field="group_id")
        return await self._batch(
            "/reward", RewardRequest, fields, batch, RewardResult, check_reward, request_id, progress
        )

    async def member(
        self, member: MemberRequest | Mapping[str, Any], *, request_id: str | None = None
    ) -> MemberResult:
        """Reward one trajectory with its group, as soon as the group's other members have been sent, too.

        Any number of members may wait at a time. A retry is the same member again and counts once. All members
        of a group carry the same `X-Opera-Group` header, by which a router sends them to the same replica.

        Raises:
            OperaError: `GroupIncomplete` when the others did not come and `on_timeout` is `error`; else as
                for `reward`.
        """
        deadline = Deadline(self._timeout)
        asked = item_of(MemberRequest, member, "")
        if asked.timeout_s is None and deadline.remaining is not None:
            asked = asked.model_copy(update={"timeout_s": deadline.remaining})
        http = await self._crowd.open()
        return await ask(
            http, MemberResult, "POST", "/reward/member", body=asked, deadline=deadline, backoff=self._backoff,
            request_id=request_id, headers={GROUP_HEADER: group_route(asked.run_id, asked.step, asked.group_id)},
        )  # fmt: skip

    async def rank(
        self,
        items: Iterable[RankItem | Mapping[str, Any]],
        *,
        weight_version: str | None = None,
        run_id: str | None = None,
        request_id: str | None = None,
        progress: bool = False,
    ) -> RankResult:
        """Order the candidates of each item, best first; arguments and errors as for `reward`."""
        fields = {"weight_version": weight_version, "run_id": run_id}
        batch = items_of(RankItem, items, "items", id_field="id")
        return await self._batch("/rank", RankRequest, fields, batch, RankResult, check_rank, request_id, progress)

    async def expand(
        self,
        items: Iterable[ExpandItem | Mapping[str, Any]],
        *,
        weight_version: str | None = None,
        run_id: str | None = None,
        request_id: str | None = None,
        progress: bool = False,
    ) -> ExpandResult:
        """Sample branches after each item's prefix, best first; arguments and errors as for `reward`.

        A retry samples an item without a `seed` anew.
        """
        fields = {"weight_version": weight_version, "run_id": run_id}
        batch = items_of(ExpandItem, items, "items", id_field="id")
        return await self._batch(
            "/expand", ExpandRequest, fields, batch, ExpandResult, check_expand, request_id, progress
        )

    async def score(
        self,
        items: Iterable[ScoreItem | Mapping[str, Any]],
        *,
        detail: Detail = "reward",
        weight_version: str | None = None,
        run_id: str | None = None,
        request_id: str | None = None,
        progress: bool = False,
    ) -> ScoreResult:
        """Return plain log-probabilities of targets after contexts; arguments and errors as for `reward`."""
        fields = {"detail": detail, "weight_version": weight_version, "run_id": run_id}
        batch = items_of(ScoreItem, items, "items", id_field="id")
        return await self._batch(
            "/score", ScoreRequest, fields, batch, ScoreResult, check_score, request_id, progress
        )

    async def rewards(self) -> RewardsInfo:
        """Return the registry: every reward, what it needs, its presets and its config schema."""
        return await self._get(RewardsInfo, "/rewards")

    async def model(self) -> ServedModel:
        """Return which model and weights the service has loaded, and its limits."""
        return await self._get(ServedModel, "/model")

    async def health(self) -> Health:
        """Return how the service is; one that is starting, draining or failed says so and is no error."""
        return await self._get(Health, "/health", accept=frozenset({200, 503}))

    async def aclose(self) -> None:
        """Close the connections, stop an in-process app; a further call would open afresh."""
        await self._connection.aclose()
        await self._crowd.aclose()

    async def __aenter__(self) -> Self:
        """Open the connection; an in-process app starts here."""
        await self._connection.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @asynccontextmanager
    async def _connected(
        self, transport: httpx.AsyncBaseTransport | None, connections: int | None
    ) -> AsyncIterator[httpx.AsyncClient]:
        # Only connecting has a limit of its own: how long an answer may take is the deadline's business.
        limits = httpx.Limits(max_connections=connections)
        timeout = httpx.Timeout(None, connect=10.0)
        async with http_client(
            self.url, self._headers, timeout=timeout, limits=limits, transport=transport
        ) as http:
            yield http

    async def _get(self, kind: type[Info], path: str, accept: frozenset[int] = frozenset({200})) -> Info:
        http = await self._connection.open()
        deadline = Deadline(self._timeout)
        return await ask(http, kind, "GET", path, deadline=deadline, backoff=self._backoff, accept=accept)

    async def _batch(
        self,
        path: str,
        asked: type[Request],
        fields: Mapping[str, Any],
        batch: list[Item],
        kind: type[Result],
        check: Callable[[Request, Result], None],
        request_id: str | None,
        progress: bool,
    ) -> Result:
        listed = "groups" if asked is RewardRequest else "items"

        def question(part: list[Item], timeout_s: float | None) -> Request:
            return request_of(asked, {**fields, "timeout_s": timeout_s, listed: part})

        deadline = Deadline(self._timeout)
        chunks = list(cut(batch, max_items=self._max_items, max_bytes=self._max_bytes))
        name = request_id or uuid.uuid4().hex
        question(chunks[0], None)  # refuse bad arguments before anything is opened
        http = await self._connection.open()

        starts = list(accumulate(map(len, chunks), initial=0))

        async def work(number: int) -> Result:
            left = deadline.remaining
            request = question(chunks[number], None if left is None else max(left, 0.001))
            try:
                answer = await ask(
                    http, kind, "POST", path, body=request, deadline=deadline, backoff=self._backoff,
                    request_id=name if len(chunks) == 1 else f"{name}-{number}",
                )  # fmt: skip
            except OperaError as error:
                error.field = shift_field(error.field, starts[number])
                raise
            check(request, answer)
            return shift(answer, starts[number])

        answers: list[Result] = []
        with progress_bar(path.strip("/"), len(batch), shown=progress) as advance:
            async with aclosing(in_order(work, range(len(chunks)), concurrency=self._concurrency)) as stream:
                async for answer in stream:
                    advance(len(chunks[len(answers)]))
                    answers.append(answer)
        return merge(answers)
