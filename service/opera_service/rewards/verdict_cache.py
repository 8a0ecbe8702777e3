"""Remembers what a pure function said of long texts, by their digest: no text stays in memory."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock


class VerdictCache:
    """The last `most` verdicts; the longest unused leave first. Threads may share one."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: OrderedDict[bytes, bool] = OrderedDict()
        self._lock = Lock()

    def verdict(self, parts: Sequence[str], judge: Callable[[], bool]) -> bool:
        """Return what `judge` says, or said before of the same `parts`, which must say all that it depends on."""
        key = _digest(parts)
        with self._lock:
            known = self._known.get(key)
            if known is not None:
                self._known.move_to_end(key)
                return known
        found = judge()
        with self._lock:
            self._known[key] = found
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        return found


def _digest(parts: Sequence[str]) -> bytes:
    """Return 32 bytes that no other parts have: lengths keep them apart."""
    digest = hashlib.blake2b(digest_size=32)
    for part in parts:
        data = part.encode(errors="surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.digest()
