"""What the package promises is what it exports."""

import subprocess
import sys
import types

import opera_client


def test_all_equals_what_is_exported():
    public = {
        name
        for name, value in vars(opera_client).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert public == set(opera_client.__all__)
    assert opera_client.__all__ == sorted(opera_client.__all__, key=lambda n: (not n.isupper(), n))


def test_the_light_install_imports_nothing_heavy():
    heavy = ("numpy", "torch", "transformers", "plotly", "pyarrow", "fastapi", "uvicorn", "opera_service")
    code = f"""
import sys, opera_client, opera_cli.main
loaded = [name for name in {heavy!r} if name in sys.modules]
sys.exit(f"imported {{loaded}}" if loaded else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
