"""What /metrics of a service shows as soon as it is ready, and what it shows by run."""

import asyncio
from collections import defaultdict
from functools import lru_cache
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from opera_service.server.app import create_app
from opera_service.server.settings import Settings

# What the Prometheus operator adds to every series of a target.
TARGET_LABELS = frozenset({"job", "namespace", "service", "pod", "instance"})
# Enough for what is shown of long runs only.
RUN: dict[str, Any] = {
    "run_id": "run",
    "groups": [
        {
            "prompt": "p",
            "reference": "r",
            "trajectories": [
                {"response": "<think>a\n\nWait, b</think>c"},
                {"response": "<think>b</think>d"},
            ],
        }
    ]
    * 200,
}


@lru_cache
def exposed() -> dict[str, dict[str, set[str]]]:
    """The labels of every series of a fresh service, by its full name, with their values; and of a run's.

    `up` is Prometheus' own. Numbers by run begin with the run, so there is one; all else must be there before.
    """
    fresh, after_a_run = asyncio.run(_scrape())
    of_runs = {name: labels for name, labels in series(after_a_run).items() if name.startswith("opera_run_")}
    return {"up": {}, **series(fresh), **of_runs}


def series(text: str) -> dict[str, dict[str, set[str]]]:
    """Labels and their values by the names of series in Prometheus' text format."""
    labels: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            of_series = labels.setdefault(sample.name, defaultdict(set))
            for name, value in sample.labels.items():
                of_series[name].add(value)
    return labels


async def _scrape() -> tuple[str, str]:
    app = create_app(Settings(engine="dummy", host="127.0.0.1"))
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://app") as http,
    ):
        fresh = (await http.get("/metrics")).text
        answer = await http.post("/reward", json=RUN)
        assert answer.status_code == 200, answer.text
        return fresh, (await http.get("/metrics")).text
