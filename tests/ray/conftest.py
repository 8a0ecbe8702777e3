"""One small Ray cluster on this machine for the whole run (`make test-ray`), and the app deployed on it.

Without Ray installed nothing here is collected, so the default suite needs none.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from opera_client import AsyncRewardClient, ClientOptions
from opera_client.wire import MemberResult

if find_spec("ray") is None:
    collect_ignore_glob = ["test_*.py"]

os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.5",
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.5",
    "HF_HUB_OFFLINE": "1",
}

ADMIN = "the-admin-key"
APP = "opera"
# Without the cache of scores: what is asked again is work again.
DUMMY = {"engine": "dummy", "allow_open": True, "admin_keys": ADMIN, "cache_mb": 0}
# Without the bridge the dummy engine sees each response's last byte, so that rewards differ.
CONFIG = {"context": {"bridge": "", "label": ""}, "comparison": {"margin": 0}}
SIZE = 4


def salted(salt: int) -> bytes:
    """The dummy engine's weights."""
    return save({"salt": np.array(salt, dtype=np.int64)})


def group(number: int, size: int = SIZE) -> dict[str, Any]:
    """A group of its own, the same in every process."""
    dice = random.Random(number)

    def word() -> str:
        return "".join(dice.choices("abcdefghijklmnop", k=dice.randint(3, 9)))

    def response() -> str:
        return f"<think>\n{word()} {word()}\n\nWait, {word()}.\n\n{word()}</think>\n\n{word()}"

    return {
        "group_id": f"g{number}",
        "prompt": f"What follows {word()}?\n",
        "reference": "yes, 42",
        "trajectories": [{"id": str(at), "response": response()} for at in range(size)],
    }


def members_of(number: int, size: int = SIZE) -> list[dict[str, Any]]:
    """The same group, member by member."""
    whole = group(number, size)
    shared = {name: whole[name] for name in ("group_id", "prompt", "reference")}
    common = {**shared, "group_size": size, "wait_s": 100, "detail": "reward", "config": CONFIG}
    return [
        {**common, "member_id": one["id"], "response": one["response"], "id": one["id"]}
        for one in whole["trajectories"]
    ]


async def expected(numbers: Sequence[int], salt: int = 0) -> dict[str, list[float | None]]:
    """What one process answers, by group."""
    async with AsyncRewardClient.in_process(engine="dummy") as client:
        if salt:
            await client.push_weights(salted(salt), str(salt))
        answer = await client.reward([group(number) for number in numbers], config=CONFIG)
    return {one.group_id: [member.reward for member in one.trajectories] for one in answer.groups}


@dataclass
class Deployed:
    """The app behind one address."""

    url: str
    args: dict[str, Any]

    def client(self, **options: Any) -> AsyncRewardClient:
        chosen: ClientOptions = {"api_key": ADMIN, "timeout": 200, **options}
        return AsyncRewardClient(self.url, **chosen)

    async def deploy(self, **scaling: Any) -> None:
        """Deploy with other options, and wait until it is so."""
        from ray import serve

        from opera_service.ray_serve.app import app_with

        await asyncio.to_thread(serve.run, app_with(self.args, **scaling), name=APP, route_prefix="/")

    def running(self) -> int:
        """Replicas that serve."""
        from ray import serve

        states = serve.status().applications[APP].deployments["scorer"].replica_states
        return states.get("RUNNING", 0)

    async def until(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not so after {seconds} s"
            await asyncio.sleep(0.2)

    def kill(self, deployment: str) -> str:
        """End one replica of a deployment as a crash would; return its name."""
        import ray
        from ray.util import list_named_actors

        prefix = f"SERVE_REPLICA::{APP}#{deployment}#"
        names = sorted(one["name"] for one in list_named_actors(all_namespaces=True))
        name = next(name for name in names if name.startswith(prefix))
        ray.kill(ray.get_actor(name, namespace="serve"))
        return name.removeprefix(prefix)


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """A cluster with Serve's proxy on a free port."""
    import ray
    from ray import serve

    ray.init(num_cpus=8, include_dashboard=False, object_store_memory=150 * 2**20, log_to_driver=False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()
    ray.shutdown()


@pytest.fixture
def deployed(address: str, tmp_path) -> Iterator[Callable[..., Any]]:
    """Deploy the app; it is deleted at the end."""
    from ray import serve

    async def deploy(args: dict[str, Any] | None = None, **scaling: Any) -> Deployed:
        app = Deployed(address, {**DUMMY, "spool_dir": str(tmp_path / "spool"), **(args or {})})
        await app.deploy(**{"autoscaling_config": None, "num_replicas": 2, **scaling})
        return app

    yield deploy
    serve.delete(APP)


def rewards_of(answers: Sequence[MemberResult]) -> dict[str, dict[str, float | None]]:
    """Rewards by group and member."""
    found: dict[str, dict[str, float | None]] = {}
    for answer in answers:
        found.setdefault(answer.group_id, {})[answer.id] = answer.reward
    return found
