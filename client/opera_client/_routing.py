"""Where the members of a group meet: the header that routes them all to one replica.

Knows names only; any router that hashes the header's value will do.
"""

from __future__ import annotations

import json
from hashlib import sha256

GROUP_HEADER = "X-Opera-Group"


def group_route(run_id: str | None, step: int | None, group_id: str) -> str:
    """Return 16 hex digits that are the same for all members of a group, on every machine and in every version."""
    name = json.dumps([run_id, step, group_id], ensure_ascii=True, separators=(",", ":"))
    return sha256(name.encode()).hexdigest()[:16]
