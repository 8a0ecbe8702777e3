"""Without a trainer, its adapter says one clear line."""

from __future__ import annotations

import subprocess
import sys

import pytest

from opera_adapters._missing import need


def test_the_line_names_the_module_and_the_extra() -> None:
    with pytest.raises(
        ImportError, match=r"opera_adapters\.trl needs no_such_trainer.*pip install 'opera-reward\[trl\]'"
    ):
        need("no_such_trainer", "trl")


def test_what_is_installed_passes() -> None:
    need("json", "trl")


@pytest.mark.parametrize(("adapter", "trainer"), [("trl", "trl"), ("openrlhf", "openrlhf"), ("verl", "verl")])
def test_an_adapter_without_its_trainer_says_one_line(adapter: str, trainer: str) -> None:
    """Also where the trainer is installed: it is hidden."""
    code = f"""
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "{trainer}" else found(name, *rest)
import opera_adapters.{adapter}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(
        f"ModuleNotFoundError: opera_adapters.{adapter} needs {trainer}, which is not installed; pip install"
    )


@pytest.mark.parametrize("module", ["reward", "groups", "slime"])
def test_what_needs_no_trainer_loads_no_torch(module: str) -> None:
    code = (
        f"import opera_adapters.{module}, sys; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_package_needs_no_trainer_and_no_torch() -> None:
    code = "import opera_adapters, sys; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
