"""What the package promises is what it exports."""

import subprocess
import sys

import opera_client


def test_what_is_promised_is_there():
    found: dict[str, object] = {}
    exec("from opera_client import *", found)
    assert set(opera_client.__all__) <= set(found)
    assert opera_client.__all__ == sorted(opera_client.__all__, key=lambda n: (not n.isupper(), n))
    assert not hasattr(opera_client, "nothing")


def test_an_engine_needs_the_errors_alone():
    """It runs on machines that have torch and nothing of the service."""
    code = "import sys, opera_client.errors; sys.exit(sorted({'httpx', 'pydantic'} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_light_install_imports_nothing_heavy():
    heavy = ("numpy", "torch", "transformers", "pyarrow", "fastapi", "uvicorn", "opera_service")
    code = f"""
import sys, opera_client, opera_cli.main
loaded = [name for name in {heavy!r} if name in sys.modules]
sys.exit(f"imported {{loaded}}" if loaded else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
