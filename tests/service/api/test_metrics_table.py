"""The table of metrics in docs/observability.md is what a running service shows: names, types, labels, meaning."""

from pathlib import Path

import httpx

from opera_service.observability.metrics import Metrics
from opera_service.server.app import create_app
from opera_service.server.settings import Settings

from .conftest import group

PAGE = Path(__file__).parents[3] / "docs" / "observability.md"


def rows(metrics: Metrics) -> list[str]:
    """One row a metric, as the page has them."""
    found = []
    for collector in list(metrics.registry._collector_to_names):
        for family in collector.collect():
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = getattr(collector, "_labelnames", None) or getattr(family, "_labelnames", ())
            if not labels and family.samples:
                labels = [label for label in family.samples[0].labels if label not in ("le", "quantile")]
            listed = ", ".join(f"`{label}`" for label in labels)
            found.append(f"| `{name}` | {family.type} | {listed} | {family.documentation} |")
    return sorted(found, key=lambda row: row.split("`")[1])


async def test_the_table_is_what_is_shown(tmp_path: Path):
    app = create_app(Settings(engine="dummy", audit=tmp_path / "audit.db"))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://app") as client,
    ):
        await client.post("/reward", json={"run_id": "r", "groups": [group()]})
        shown = rows(app.state.api.metrics)
        text = (await client.get("/metrics")).text
    for row in shown:
        assert f"# TYPE {row.split('`')[1]} " in text
    written = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `opera_")]
    assert written == shown, "paste this into docs/observability.md:\n" + "\n".join(shown)
