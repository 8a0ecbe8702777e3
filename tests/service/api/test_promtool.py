"""The metrics under Prometheus' own linter. Debian and Homebrew have it in their package `prometheus`."""

import shutil
import subprocess

import httpx
import pytest

from .conftest import group

PROMTOOL = shutil.which("promtool")


@pytest.mark.skipif(PROMTOOL is None, reason="no promtool on this machine (README, More)")
async def test_promtool_finds_nothing_to_complain_about(client: httpx.AsyncClient):
    bad = group(group_id="bad", trajectories=[{"response": ""}])
    await client.post("/reward", json={"run_id": "r", "groups": [group(), bad]})
    await client.post("/reward/member", json={**group(), "group_size": 1})  # a wrong one: refusals are shown, too
    text = (await client.get("/metrics")).content
    assert complaints(text) == (0, b"", b"")


def complaints(metrics: bytes) -> tuple[int, bytes, bytes]:
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=metrics, capture_output=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.skipif(PROMTOOL is None, reason="no promtool on this machine (README, More)")
def test_promtool_does_complain():
    code, _, said = complaints(b"# TYPE opera_wait_milliseconds counter\nopera_wait_milliseconds 1\n")
    assert code != 0
    assert b"opera_wait_milliseconds" in said
