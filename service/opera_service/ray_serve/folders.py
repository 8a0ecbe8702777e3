"""Where weights meet that every replica must find: `--spool-dir`, on a disk that all nodes see."""

from __future__ import annotations

import tempfile
from hashlib import sha256
from pathlib import Path


def root_of(spool_dir: str | Path | None) -> Path:
    """Return the folder given, or one of this Ray cluster's own, which does for a single node."""
    if spool_dir is not None:
        return Path(spool_dir)
    import ray

    return Path(tempfile.gettempdir()) / f"opera-reward-{ray.get_runtime_context().get_session_name()}"


def folder_of(root: Path, replica_set: str) -> Path:
    """Return the folder of replicas that were started alike."""
    return root / sha256(replica_set.encode()).hexdigest()[:16]
