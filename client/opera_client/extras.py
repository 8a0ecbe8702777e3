"""Which extra of the package brings a module that is not installed."""

from __future__ import annotations

from opera_client.errors import BadInput

_EXTRAS = {"peft": "trainer", "pyarrow": "parquet", "vllm": "vllm", "ray": "ray", "trl": "trl"}


def missing_extra(error: ModuleNotFoundError, what: str) -> BadInput:
    """Return the line that says which extra brings the missing module."""
    module = (error.name or "").partition(".")[0]
    extra = _EXTRAS.get(module, "server")
    return BadInput(f"{what} needs {module or 'a package'}: pip install 'opera-reward[{extra}]'")
