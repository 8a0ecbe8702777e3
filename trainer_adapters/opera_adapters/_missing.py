"""One clear line for a trainer that is not installed."""

from __future__ import annotations

from importlib.util import find_spec


def need(module: str, extra: str) -> None:
    """Raise ModuleNotFoundError when `module` is not installed, saying how to get it."""
    if find_spec(module) is None:
        raise ModuleNotFoundError(
            f"opera_adapters.{extra} needs {module}, which is not installed; pip install 'opera-reward[{extra}]'",
            name=module,
        )
