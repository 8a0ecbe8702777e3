"""The weights in a model's folder: which files they are, and the revision that names them. Imports no torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

PATTERNS = ("*.safetensors", "pytorch_model*.bin")


def weight_files(folder: Path) -> list[Path]:
    """Return the files that transformers would read: safetensors win over pickles."""
    for pattern in PATTERNS:
        found = sorted(folder.glob(pattern))
        if found:
            return found
    return []


def revision_of(folder: Path) -> str:
    """Return `sha256:` and the hash of the weights: of the one file, or of the list of the files' sha256 lines."""
    digests = []
    for path in weight_files(folder):
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    one = digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
    return f"sha256:{one}"
