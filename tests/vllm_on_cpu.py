"""How real vLLM runs on a CPU, in the suites that have it. Set before vLLM is imported."""

import os
from importlib.util import find_spec
from pathlib import Path

INSTALLED = find_spec("vllm") is not None


def prepare(**more: str) -> None:
    """Set vLLM's variables for this process and its children."""
    os.environ |= {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CACHE_ROOT": str(Path(__file__).parents[1] / ".pytest_cache" / "vllm"),  # not in the home folder
        "HF_HUB_OFFLINE": "1",
        **more,
    }
    os.environ.setdefault("OMP_NUM_THREADS", "1")
