"""The log as Parquet, one row a trajectory: what data frames and DuckDB read.

Needs pyarrow, imported when used.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opera_service.audit import store
from opera_service.audit.entries import SECOND
from opera_service.audit.store import Window

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 1024
"""Rows in memory at a time."""
_FROM_GROUP = (
    "request_id", "run_id", "step", "group_id", "task", "preset", "config", "config_hash", "model", "revision",
    "weight_version", "dtype", "engine", "initial_mean_logprob", "prompt", "reference",
)  # fmt: skip
_FROM_TRAJECTORY = ("position", "status", "reward", "mean_logprob", "error", "response")


def export(connection: sqlite3.Connection, window: Window, out: Path) -> int:
    """Write a window to `out` and return how many rows it has. Raises `OSError`; no torn file is left behind."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    components = store.component_names(connection, window)
    schema, rows, written = _schema(components), _rows(connection, window, components), 0
    unfinished = out.with_name(f"{out.name}.tmp")
    try:
        with ParquetWriter(unfinished, schema) as writer:
            while part := list(islice(rows, _ROWS)):
                writer.write_batch(pa.RecordBatch.from_pylist(part, schema=schema))
                written += len(part)
        unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)
    return written


def _schema(components: list[str]) -> pa.Schema:
    import pyarrow as pa

    text, number, ids = pa.string(), pa.float64(), pa.list_(pa.int64())
    return pa.schema(
        [
            ("time", pa.timestamp("us", tz="UTC")), ("request_id", text), ("run_id", text), ("step", pa.int64()),
            ("group_id", text), ("position", pa.int64()), ("trajectory_id", text), ("fresh", pa.bool_()),
            ("status", text), ("error", text), ("reward", number),
            *((f"components.{name}", number) for name in components),
            ("mean_logprob", number), ("initial_mean_logprob", number), ("flags", pa.list_(text)),
            ("reward_name", text), ("preset", text), ("config", text), ("config_hash", text), ("model", text),
            ("revision", text), ("weight_version", text), ("dtype", text), ("engine", text), ("task", text),
            *((name, text) for name in SECOND),
            ("prompt", text), ("prompt_token_ids", ids), ("reference", text), ("reference_token_ids", ids),
            ("response", text), ("response_token_ids", ids), ("response_mask", ids), ("turns", text),
        ]
    )  # fmt: skip


def _rows(connection: sqlite3.Connection, window: Window, components: list[str]) -> Iterator[dict[str, Any]]:
    for group, members in store.groups(connection, window):
        shared = {name: group[name] for name in _FROM_GROUP} | {
            "time": datetime.fromtimestamp(group["time"], UTC),
            "reward_name": group["reward"],
            "prompt_token_ids": _json(group["prompt_token_ids"]),
            "reference_token_ids": _json(group["reference_token_ids"]),
            **{name: store.if_kept(group, name) for name in SECOND},
        }
        for one in members:
            parts = _json(one["components"]) or {}
            yield {
                **shared,
                **{name: one[name] for name in _FROM_TRAJECTORY},
                **{f"components.{name}": parts.get(name) for name in components},
                "trajectory_id": one["id"],
                "fresh": bool(one["fresh"]),
                "flags": _json(one["flags"]),
                "response_token_ids": _json(one["response_token_ids"]),
                "turns": store.if_kept(one, "turns"),
                "response_mask": _json(store.if_kept(one, "response_mask")),
            }


def _json(text: str | None) -> Any:
    return None if text is None else json.loads(text)
