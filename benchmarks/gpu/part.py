"""What all parts of a GPU run share: options, a clock, and figures that are on disk as soon as they are known."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch


class Part:
    """One part: it has some seconds, and its file OUT/NAME.json always holds all that was measured so far."""

    def __init__(self, name: str, cells: Sequence[str] = ()) -> None:
        """Read the command line; with `cells`, which one. Without a GPU only a rehearsal goes on."""
        parser = argparse.ArgumentParser(prog=f"gpu.{name}")
        parser.add_argument("--out", type=Path, required=True, help="Folder for the figures.")
        parser.add_argument("--until", type=float, default=math.inf, help="Its end, in seconds since 1970.")
        parser.add_argument("--dry-run", action="store_true", help="Every line at tiny size, on a CPU.")
        parser.add_argument("--cell", choices=cells, default="", help="One of several runs; default: all at once.")
        options = parser.parse_args()
        self.name, self.out, self.dry, self.cell = name, options.out, options.dry_run, options.cell
        self._began, self._until = time.monotonic(), options.until
        if not self.dry and not torch.cuda.is_available():
            parser.error(f"torch {torch.__version__} sees no CUDA device; --dry-run rehearses on a CPU")
        self.device = torch.device("cpu" if self.dry else "cuda:0")
        if self.dry:
            torch.set_num_threads(1)
        self._report: dict[str, Any] = {
            "part": name,
            "cell": self.cell,
            "dry_run": self.dry,
            "finished": False,
            "seconds": 0.0,
            "about": _about(self.device),
            "tables": {},
        }
        self._save()

    def add(self, table: str, **figures: Any) -> None:
        """Append a row to a table."""
        self._report["tables"].setdefault(table, []).append(figures)
        self._save()
        shown = (f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
                 for name, value in figures.items())  # fmt: skip
        print(f"[{self.spent:5.1f} s] {table}: {', '.join(shown)}", flush=True)

    @property
    def spent(self) -> float:
        """Seconds since the part began."""
        return time.monotonic() - self._began

    def has(self, seconds: float) -> bool:
        """Whether that much time is left; a rehearsal has all the time it needs."""
        return self.dry or self._until - time.time() >= seconds

    def finish(self) -> None:
        """Say that everything was measured."""
        self._report["finished"] = True
        self._save()

    def wait(self) -> None:
        """Wait until the device has done all that it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def _save(self) -> None:
        self._report["seconds"] = round(self.spent, 1)
        self.out.mkdir(parents=True, exist_ok=True)
        path = self.out / (f"{self.name}-{self.cell}.json" if self.cell else f"{self.name}.json")
        draft = path.with_suffix(".tmp")
        draft.write_text(json.dumps(self._report, indent=1) + "\n", encoding="utf-8")
        draft.replace(path)


def _about(device: torch.device) -> dict[str, Any]:
    found: dict[str, Any] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "device": "CPU, one thread",
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    for package in ("transformers", "triton", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    if device.type == "cuda":
        seen = torch.cuda.get_device_properties(device)
        found |= {
            "device": seen.name,
            "memory_gib": round(seen.total_memory / 2**30, 1),
            "multiprocessors": seen.multi_processor_count,
            "cuda": torch.version.cuda,
            "driver": _driver(),
        }
    return found


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
