"""Which kept groups the page shows, and the names it has for them. SQL and constants."""

from __future__ import annotations

from opera_service.observability.run_health import UNNAMED

ASK_AGAIN = "ask-again"
"""Run id of what the page itself asks: in the audit log, but no training run."""
WINDOW = 50_000
"""Newest groups among which trajectories are searched, sorted and counted."""
VISIBLE = "NOT g.superseded AND g.run_id IS NOT 'ask-again'"
"""Condition on `groups AS g`."""


def run_of(run_id: str | None) -> str:
    """Return the name under which a run is shown."""
    return UNNAMED if run_id is None else run_id


def of_run(run: str) -> tuple[str, list[str]]:
    """Return the condition for one run, and its values."""
    if run == UNNAMED:
        return "(g.run_id IS NULL OR g.run_id = ?)", [run]
    return "g.run_id = ?", [run]
