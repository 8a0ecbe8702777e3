"""A real Prometheus scrapes the running service; the autoscalers' queries return the queue that was built up."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from ..service.live import live
from .cluster import KUSTOMIZE, ROOT
from .rollout.kubelet import free_port
from .test_dashboard import adapter_query, keda_query

KEY = "sesame"
TOKEN_SECONDS = 0.002


def group(name: str, characters: int) -> dict[str, Any]:
    """One token a character, on the dummy engine."""
    return {"group_id": name, "prompt": name, "reference": "r", "trajectories": [{"response": "x" * characters}]}


@asynccontextmanager
async def prometheus(program: str, target: str, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A Prometheus with compose's configuration, but for address, key and pace, and with our alerts."""
    config = yaml.safe_load((ROOT / "deploy" / "compose" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "1s"}
    config["rule_files"] = ["alerts.yaml"]
    (job,) = config["scrape_configs"]
    job["static_configs"][0]["targets"] = [target]
    job["static_configs"][0]["labels"]["pod"] = "a"
    job["authorization"] = {"type": "Bearer", "credentials": KEY}
    rule = yaml.safe_load((KUSTOMIZE / "cluster" / "rules" / "prometheusrule.yaml").read_text())
    (folder / "alerts.yaml").write_text(yaml.safe_dump(rule["spec"]))
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    try:
        async with httpx.AsyncClient(base_url=f"http://{address}/api/v1") as http:
            await until(lambda: ready(http), 30)
            yield http
    finally:
        process.terminate()
        await process.wait()


async def ready(http: httpx.AsyncClient) -> bool:
    try:
        found = (await http.get("/query", params={"query": 'up{job="opera-reward"}'})).json()
    except (httpx.HTTPError, ValueError):
        return False
    return found["status"] == "success" and [one["value"][1] for one in found["data"]["result"]] == ["1"]


async def until(true: Callable[[], Any], within_s: float) -> None:
    ends = time.monotonic() + within_s
    while not await true():
        assert time.monotonic() < ends, "waited in vain"
        await asyncio.sleep(0.1)


async def ask(http: httpx.AsyncClient, query: str) -> float | None:
    (result,) = (await http.get("/query", params={"query": query})).json()["data"]["result"] or [None]
    return None if result is None else float(result["value"][1])


@pytest.mark.slow  # waits for two scrapes
async def test_the_scaling_queries_see_the_queue(tmp_path: Path, tool: Callable[[str], str]):
    program = tool("prometheus")
    keys = tmp_path / "keys"
    keys.write_text(KEY + "\n")
    keda = keda_query()
    flags = ("--engine", "dummy", "--dummy-token-seconds", str(TOKEN_SECONDS), "--api-key-file", str(keys))
    with live(*flags) as server:
        own = httpx.AsyncClient(base_url=server.url, headers={"X-API-Key": KEY}, timeout=60)
        async with own, prometheus(program, server.url.removeprefix("http://"), tmp_path) as asked:
            assert await ask(asked, keda) == 0.0
            sent = [
                asyncio.create_task(
                    own.post("/reward", json={"preset": "hardened-1", "groups": [group(str(number), 500)]})
                )
                for number in range(5)
            ]
            seen: set[float | None] = set()
            while not any(one.done() for one in sent):
                seen |= {await ask(asked, keda), await ask(asked, adapter_query())}
                await asyncio.sleep(0.05)
            tokens = [(await one).json()["usage"]["tokens_computed"] for one in sent]
            assert min(tokens) >= 500
            assert max(found or 0 for found in seen) == sum(tokens), "all that was sent and not answered"

            async def idle() -> bool:
                return await ask(asked, keda) == await ask(asked, adapter_query()) == 0.0

            await until(idle, 10)
            groups = (await asked.get("/rules")).json()["data"]["groups"]
            assert {rule["health"] for one in groups for rule in one["rules"]} == {"ok"}
