"""One of two pods is replaced under load, at the manifest's own pace: no request and no group is lost."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from opera_client import AsyncRewardClient
from opera_client._routing import GROUP_HEADER

from ..cluster import overlay, pod_of, settings_of
from .kubelet import ENDPOINT_LAG_S, Pod
from .routers import Routers

KEY = "sesame"
SIZE = 4
# Without the bridge the dummy engine sees each response's last byte, so that rewards differ.
ASKED: dict[str, Any] = {"detail": "reward", "preset": "hardened-1", "config": {"context": {"bridge": ""}}}
TOKEN_SECONDS = 0.0005
START_S = 150
"""A process may take so long to start on a busy machine; that is not what is tested."""


def group(name: str, words: int = 3) -> dict[str, Any]:
    dice = random.Random(name)

    def word() -> str:
        return "".join(dice.choices("abcdefghijklmnop", k=6))

    def response() -> str:
        return f"<think>\n{word()}\n\nWait, {' '.join(word() for _ in range(words))}.\n\n</think>\n\n{word()}"

    trajectories = [{"id": f"m{member}", "response": response()} for member in range(SIZE)]
    return {"group_id": name, "prompt": "What follows?\n", "reference": "yes, 42", "trajectories": trajectories}


@pytest.fixture
def spec() -> dict[str, Any]:
    return pod_of(overlay("cpu-demo"))


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The ConfigMap's settings, with the dummy engine, and key files where the Secret would be."""
    for name, key in (("api-keys", KEY), ("admin-keys", "open")):
        (tmp_path / name).write_text(key + "\n")
    keys = {f"OPERA_{kind}_KEY_FILE": str(tmp_path / f"{kind.lower()}-keys") for kind in ("API", "ADMIN")}
    dummy = {"OPERA_ENGINE": "dummy", "OPERA_DUMMY_TOKEN_SECONDS": str(TOKEN_SECONDS)}
    return {**settings_of(overlay("cpu-demo")), **keys, **dummy}


class Load:
    """Callers that never stop asking, and every answer they got."""

    def __init__(self, routers: Routers) -> None:
        self.whole: dict[str, list[float | None]] = {}
        self.members: dict[str, dict[str, tuple[float | None, int]]] = {}
        self.sent = 0
        self._over = asyncio.Event()
        self._service = AsyncRewardClient(routers.service_url, api_key=KEY, timeout=90)
        self._ingress = AsyncRewardClient(routers.ingress_url, api_key=KEY, timeout=90)

    async def run(self) -> None:
        async with self._service, self._ingress, asyncio.TaskGroup() as callers:
            for caller in range(6):
                callers.create_task(self._ask_whole(caller))
            for caller in range(6):
                callers.create_task(self._ask_by_member(caller))

    def stop(self) -> None:
        self._over.set()

    async def _rounds(self, kind: str, caller: int) -> AsyncIterator[str]:
        turn = 0
        while not self._over.is_set():
            yield f"{kind}-{caller}-{turn}"
            turn += 1
            self.sent += 1

    async def _ask_whole(self, caller: int) -> None:
        async for name in self._rounds("whole", caller):
            result = await self._service.reward([group(name)], **ASKED)
            self.whole[name] = result.rewards[0]

    async def _ask_by_member(self, caller: int) -> None:
        """The members of a group come one after the other, so that some always wait when something happens."""
        async for name in self._rounds("member", caller):
            whole = group(name)
            found = self.members.setdefault(name, {})

            async def ask(trajectory: dict[str, str], delay: float, whole=whole, found=found) -> None:
                await asyncio.sleep(delay)
                answer = await self._ingress.member(
                    {
                        **ASKED,
                        **{key: whole[key] for key in ("group_id", "prompt", "reference")},
                        "run_id": "run",
                        "step": 1,
                        "group_size": SIZE,
                        "member_id": trajectory["id"],
                        "response": trajectory["response"],
                        "wait_s": 8.0,
                        "on_timeout": "error",
                    }
                )
                found[trajectory["id"]] = (answer.reward, answer.group_size_seen)

            async with asyncio.TaskGroup() as asking:
                for place, trajectory in enumerate(whole["trajectories"]):
                    asking.create_task(ask(trajectory, 0.4 * place))


@pytest.mark.timeout(2 * START_S + 120)
@pytest.mark.slow  # two services and two weights, one after the other
async def test_nothing_is_lost(spec: dict[str, Any], environment: dict[str, str], tmp_path: Path):
    pods = [Pod(name, spec, environment, tmp_path / f"{name}.log") for name in ("a", "b")]
    routers = Routers(pods, GROUP_HEADER)
    try:
        for pod in pods:
            await pod.until_ready(START_S)
        async with routers.running():
            load = Load(routers)
            loading = asyncio.create_task(load.run())
            await asyncio.sleep(2)
            old, _ = pods
            new = Pod("c", spec, environment, tmp_path / "c.log")
            pods.append(new)
            await new.until_ready(START_S)  # maxUnavailable 0: only now may the old one go
            leaving = asyncio.create_task(old.delete())
            pre_stop = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
            await asyncio.sleep(ENDPOINT_LAG_S + 1)
            used = routers.used["a"]
            await asyncio.sleep(pre_stop - ENDPOINT_LAG_S - 1.5)
            # From a router that has heard nothing, half a second before SIGTERM: five seconds of work.
            late, sent = group("late", words=300), time.monotonic()
            async with AsyncRewardClient(f"http://127.0.0.1:{old.port}", api_key=KEY, retries=0) as direct:
                late_rewards = (await direct.reward([late], **ASKED)).rewards[0]
            assert time.monotonic() - sent > 2, "SIGTERM must find it at work"
            code = await leaving
            await asyncio.sleep(1)
            load.stop()
            await loading
            assert (code, old.killed) == (0, False)
            assert routers.refused == 0, "preStop outlasts the routers' knowledge"
            assert routers.used["a"] == used, "an unlisted pod gets nothing new"
            assert min(routers.used.values()) >= 10, "all three pods took part"
    finally:
        for pod in pods:
            await pod.aclose()

    assert load.sent == len(load.whole) + len(load.members) > 100
    assert all(len(members) == SIZE for members in load.members.values())
    assert all(seen == SIZE for members in load.members.values() for _, seen in members.values())
    async with AsyncRewardClient.in_process(engine="dummy", options={"timeout": 120}) as quiet:
        names = [*load.whole, *load.members]
        expected = (await quiet.reward([group(name) for name in names] + [late], **ASKED)).rewards
    assert late_rewards == expected.pop()
    for name, rewards in zip(names, expected, strict=True):
        assert None not in rewards
        assert len(set(rewards)) > 1
        if name in load.whole:
            assert load.whole[name] == rewards
        else:
            assert [load.members[name][f"m{place}"][0] for place in range(SIZE)] == rewards
