"""What /metrics of a service shows after some of everything has happened to it."""

import asyncio
from collections import defaultdict
from functools import lru_cache

import httpx
from prometheus_client.parser import text_string_to_metric_families

from opera_service.api.app import create_app
from opera_service.server.settings import Settings

# What the Prometheus operator adds to every series of a target.
TARGET_LABELS = frozenset({"job", "namespace", "service", "pod", "instance"})
WHOLE = {
    "prompt": "p",
    "reference": "r",
    "trajectories": [
        {"response": "<think>a\n\nWait, b</think>c"},
        {"response": "<think>b</think>d"},
        {"response_token_ids": [10**6]},
    ],
}


@lru_cache
def exposed() -> dict[str, dict[str, set[str]]]:
    """The labels of every series, by its full name, with the values that were seen; `up` is Prometheus' own."""
    labels: dict[str, dict[str, set[str]]] = {"up": {}}
    for family in text_string_to_metric_families(asyncio.run(_scrape())):
        for sample in family.samples:
            of_series = labels.setdefault(sample.name, defaultdict(set))
            for name, value in sample.labels.items():
                of_series[name].add(value)
    return labels


async def _scrape() -> str:
    app = create_app(Settings(engine="dummy", host="127.0.0.1"))
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://app") as http,
    ):
        for _ in range(2):  # the second time whatever is cached comes from the cache
            # Enough for what is shown of long runs only.
            answer = await http.post("/reward", json={"groups": [WHOLE] * 100, "run_id": "run"})
            assert answer.status_code == 200, answer.text
        # Nobody hangs up in time here: the dummy engine is too quick.
        app.state.lifecycle.metrics.dropped("abandoned", 1)
        too_many = await http.post("/reward", json={"groups": [WHOLE] * 257})
        assert too_many.status_code == 413
        refused = await http.put("/policy/weights", content=b"nonsense", headers={"X-Weight-Version": "1"})
        assert refused.status_code == 422
        return (await http.get("/metrics")).text
