"""Who answers: a service at an address, or the service's own code inside this process."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from opera_client import DEFAULT_TIMEOUT, AsyncRewardClient, ClientOptions
from opera_client.errors import BadInput, OperaError, Unavailable

_PROBE_TIMEOUT = 15.0
"""Seconds; a wrong address must be noticed before the long work's patient retries."""


@dataclass(frozen=True)
class Target:
    """The options that choose and configure the client."""

    url: str | None = None
    engine: str | None = None
    model: str | None = None
    concurrency: int = 8
    timeout: float | None = DEFAULT_TIMEOUT

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[AsyncRewardClient]:
        """Yield a client whose service answers.

        Raises:
            BadInput: the options contradict each other, or the service's own code cannot start with them.
            ServiceUnreachable: nobody answers at the address.
        """
        options = ClientOptions(concurrency=self.concurrency, timeout=self.timeout)
        own = self._own
        if self.url:
            if own:
                raise BadInput(f"--{next(iter(own))} is for work without a service; leave it or --url out")
            async with AsyncRewardClient(self.url, retries=2, timeout=_PROBE_TIMEOUT) as probe:
                await probe.health()
            async with AsyncRewardClient(self.url, **options) as client:
                yield client
            return
        client = AsyncRewardClient.in_process(options=options, **own)
        try:
            await client.__aenter__()
        except Unavailable as error:
            raise BadInput(error.message) from None
        try:
            yield client
        finally:
            await client.aclose()

    def foretold(self) -> dict[str, str] | None:
        """Return what the service's own code will say of the model, found without loading it; None if unknown."""
        if self.url:
            return None
        try:
            # By name: rooms of the service that know no engine use this class, too.
            backends = importlib.import_module("opera_service.server.backends")
            settings = importlib.import_module("opera_service.server.settings")
            found: dict[str, str] | None = backends.foretold(settings.Settings(**self._own))
        except (ImportError, OSError, ValueError, OperaError):
            return None  # opening it says what is wrong
        return found

    @property
    def _own(self) -> dict[str, Any]:
        return {name: value for name in ("engine", "model") if (value := getattr(self, name)) is not None}
