"""What Kubernetes does with one pod, at the manifest's own pace: start, probe, list as endpoint, stop.

Containers are plain processes; all numbers come from the Deployment. It knows no request and no router.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

SERVE = [str(Path(sys.executable).with_name("opera-reward")), "serve"]
ENDPOINT_LAG_S = 3.0
"""How long routers go on using a pod that is being deleted."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Pod:
    """One process under the manifest's probes."""

    def __init__(self, name: str, spec: dict[str, Any], environment: dict[str, str], log: Path) -> None:
        self.name, self.port = name, free_port()
        self._spec, (self._container,) = spec, spec["containers"]
        kept = {key: value for key, value in os.environ.items() if not key.startswith("OPERA_")}
        self._log = log.open("wb")
        own = {"OPERA_HOST": "127.0.0.1", "OPERA_PORT": str(self.port)}
        self.process = subprocess.Popen(
            SERVE, env={**kept, **environment, **own}, stdout=self._log, stderr=subprocess.STDOUT
        )
        self.ready = self.killed = False
        """Whether routers send it requests; whether it had to be killed."""
        self._probing = asyncio.create_task(self._probe())

    async def until_ready(self, within_s: float) -> None:
        async with asyncio.timeout(within_s):
            while not self.ready:
                assert self.process.poll() is None, f"{self.name} left with {self.process.returncode}"
                await asyncio.sleep(0.05)

    async def delete(self) -> int:
        """Stop it as the kubelet does, and return its exit code."""
        unlisting = asyncio.create_task(self._unlist())
        grace_ends = time.monotonic() + self._spec["terminationGracePeriodSeconds"]
        await asyncio.sleep(self._container["lifecycle"]["preStop"]["sleep"]["seconds"])
        self.process.send_signal(signal.SIGTERM)
        while self.process.poll() is None:
            if time.monotonic() > grace_ends:
                self.killed = True
                self.process.kill()
            await asyncio.sleep(0.02)
        await unlisting
        self._log.close()
        return self.process.returncode

    async def aclose(self) -> None:
        """End it at once, when the test is over."""
        self._probing.cancel()
        if self.process.poll() is None:
            self.process.kill()
        await asyncio.to_thread(self.process.wait)
        self._log.close()

    async def _unlist(self) -> None:
        await asyncio.sleep(ENDPOINT_LAG_S)
        self._probing.cancel()
        self.ready = False

    async def _probe(self) -> None:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}") as http:
            await self._started(http, self._container["startupProbe"])
            failures = 0
            readiness = self._container["readinessProbe"]
            while True:
                failures = 0 if await _answers(http, readiness) else failures + 1
                if failures == 0 or failures >= readiness["failureThreshold"]:
                    self.ready = failures == 0
                await asyncio.sleep(readiness["periodSeconds"])

    async def _started(self, http: httpx.AsyncClient, probe: dict[str, Any]) -> None:
        for _ in range(probe["failureThreshold"]):
            if await _answers(http, probe):
                return
            await asyncio.sleep(probe["periodSeconds"])
        raise AssertionError(f"{self.name} did not start")


async def _answers(http: httpx.AsyncClient, probe: dict[str, Any]) -> bool:
    try:
        answer = await http.get(probe["httpGet"]["path"], timeout=probe["timeoutSeconds"])
    except httpx.HTTPError:
        return False
    return 200 <= answer.status_code < 400
