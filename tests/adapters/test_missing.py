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


def test_the_package_needs_no_trainer_and_no_torch() -> None:
    code = "import opera_adapters, sys; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
