"""The client for plain code: every method of `AsyncRewardClient`, run on a private event-loop thread."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, Unpack

from opera_client._async import AsyncRewardClient
from opera_client._in_process import App
from opera_client._options import ClientOptions
from opera_client._plain_hints import PlainHintStream
from opera_client._portal import Portal

P = ParamSpec("P")
R = TypeVar("R")


def _plain(
    method: Callable[Concatenate[AsyncRewardClient, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[RewardClient, P], R]:
    @functools.wraps(method)
    def call(self: RewardClient, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._portal.run(lambda: method(self._client, *args, **kwargs))

    return call


class RewardClient:
    """Ask an opera-reward service for rewards, rankings and log-probabilities.

    Arguments, methods and errors are those of `AsyncRewardClient`. Safe in notebooks, from several threads
    at once, and after a fork (the child opens its own connections).

        with RewardClient("http://localhost:8000") as client:
            result = client.reward(groups)
    """

    def __init__(self, url: str | None = None, **options: Unpack[ClientOptions]) -> None:
        self._own(AsyncRewardClient(url, **options))

    @classmethod
    def in_process(
        cls, app: App | None = None, /, *, options: ClientOptions | None = None, **settings: Any
    ) -> Self:
        """Run the service's own app inside this process; see `AsyncRewardClient.in_process`."""
        client = cls.__new__(cls)
        client._own(AsyncRewardClient.in_process(app, options=options, **settings))  # noqa: SLF001
        return client

    def _own(self, client: AsyncRewardClient) -> None:
        self._client = client
        self._portal = Portal()
        self._finalizer = weakref.finalize(self, _shut, client, self._portal)

    @property
    def url(self) -> str:
        """The service's address."""
        return self._client.url

    reward = _plain(AsyncRewardClient.reward)
    member = _plain(AsyncRewardClient.member)
    rank = _plain(AsyncRewardClient.rank)
    expand = _plain(AsyncRewardClient.expand)
    score = _plain(AsyncRewardClient.score)
    rewards = _plain(AsyncRewardClient.rewards)
    model = _plain(AsyncRewardClient.model)
    policy = _plain(AsyncRewardClient.policy)
    push_weights = _plain(AsyncRewardClient.push_weights)
    load_policy = _plain(AsyncRewardClient.load_policy)
    health = _plain(AsyncRewardClient.health)

    def hints(
        self, *, group_id: str, member_id: str, run_id: str | None = None, step: int | None = None, **about: Any
    ) -> PlainHintStream:
        """Return what takes a trajectory as it is written; see `AsyncRewardClient.hints`."""
        return PlainHintStream(
            self._client.hints(group_id=group_id, member_id=member_id, run_id=run_id, step=step, **about),
            self._portal,
        )

    def close(self) -> None:
        """Close the connections, stop an in-process app; a further call would open afresh."""
        _shut(self._client, self._portal)

    def __enter__(self) -> Self:
        """Open the client; an in-process app starts here."""
        self._portal.run(self._client.__aenter__)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _shut(client: AsyncRewardClient, portal: Portal) -> None:
    if portal.alive:
        try:
            portal.run(client.aclose)
        finally:
            portal.stop()
