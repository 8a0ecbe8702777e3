"""A server whose disk is full: answers stay the same, the log warns, and goes on when there is space."""

import re
import resource
import signal
import time
from pathlib import Path

import httpx
import pytest

from opera_service.audit.store import Window, groups, open_for_reading

from ..live import live
from .test_serve import refused

GROUP = {"prompt": "p", "reference": "r", "trajectories": [{"response": "<think>a\n\nWait, b</think>c"}]}


def metric(client: httpx.Client, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    assert found, name
    return float(found[1])


def until(is_so) -> None:
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


def test_a_full_disk_costs_rows_at_most_and_never_an_answer(tmp_path: Path):
    path = tmp_path / "audit.db"
    with live("--engine", "dummy", "--audit", str(path)) as server, httpx.Client(base_url=server.url) as client:

        def ask(step: int) -> dict:
            answer = client.post("/reward", json={"step": step, "groups": [GROUP]})
            assert answer.status_code == 200
            return answer.json()["groups"]

        before = ask(0)
        until(lambda: metric(client, "opera_audit_written_trajectories_total") == 1)
        # No file of this process may grow any more, as on a full disk.
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        for step in range(1, 21):
            assert ask(step) == before
        until(lambda: metric(client, "opera_audit_failures_total") >= 3)
        assert metric(client, "opera_audit_ok") == 0
        assert metric(client, "opera_audit_waiting_bytes") > 0
        assert ask(21) == before
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        until(lambda: metric(client, "opera_audit_written_trajectories_total") == 22)
        assert metric(client, "opera_audit_ok") == 1
        assert ask(22) == before
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=30) == 0
        said = server.process.stderr.read().splitlines()
    assert [group["step"] for group, _ in groups(open_for_reading(path), Window())] == list(range(23))
    assert len(said) == 2, said
    assert "cannot be written" in said[0]
    assert "written again" in said[1]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.write_text("mine " * 1000), "not an audit log"),
        (lambda path: path.mkdir(), "cannot be the audit log"),
    ],
)
def test_a_path_that_cannot_be_a_log_is_one_line(tmp_path: Path, make, said: str):
    make(tmp_path / "audit.db")
    assert said in refused("--engine", "dummy", "--audit", str(tmp_path / "audit.db"))


def test_a_folder_that_is_not_there_is_one_line():
    assert "/nowhere is not a folder" in refused("--engine", "dummy", "--audit", "/nowhere/audit.db")
