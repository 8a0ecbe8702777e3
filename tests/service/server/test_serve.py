"""`opera-reward serve` as a process: ready line, one line for what is wrong, drain on a signal."""

import contextlib
import signal
import socket
import threading
from pathlib import Path

import httpx
import pytest
from tests import forked

from ..live import COMMAND, environment, live

GROUP = {"prompt": "p", "reference": "r", "trajectories": [{"response": "<think>a\n\nWait, b</think>c"}]}


def refused(*flags: str, **variables: str) -> str:
    """Run `serve` with wrong settings and return the one line it says."""
    done = forked.run("serve", *flags, env=environment(**variables), timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("opera-reward serve: ")
    return line


def test_serves_until_interrupted_and_leaves_with_zero():
    with live("--engine", "dummy", command=COMMAND) as server:
        assert httpx.get(f"{server.url}/readyz").json()["status"] == "ok"
        answer = httpx.post(f"{server.url}/reward", json={"groups": [GROUP]})
        assert answer.status_code == 200
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(timeout=30) == 0
        assert server.process.stdout.read() == "", "one line when ready, nothing more"
        assert server.process.stderr.read() == ""


def test_sigterm_finishes_the_requests_in_hand():
    with live("--engine", "dummy", "--dummy-token-seconds", "0.002") as server:
        answers: list[httpx.Response] = []
        body = {"groups": [{**GROUP, "prompt": "p" * 500}]}
        asking = threading.Thread(
            target=lambda: answers.append(httpx.post(f"{server.url}/reward", json=body, timeout=60))
        )
        asking.start()
        while (
            "opera_queue_trees 0.0" not in (text := httpx.get(f"{server.url}/metrics").text)
            or "encode_seconds_count 0.0" in text
        ):
            pass
        server.process.send_signal(signal.SIGTERM)
        asking.join()
        assert answers[0].status_code == 200
        assert answers[0].json()["groups"][0]["trajectories"][0]["status"] == "ok"
        assert server.process.wait(timeout=30) == 0


def test_a_second_signal_ends_it_at_once():
    with live("--engine", "dummy", "--dummy-token-seconds", "0.2") as server:
        asking = threading.Thread(target=_ask_in_vain, args=(server.url,))
        asking.start()
        while "opera_running_trees 1.0" not in httpx.get(f"{server.url}/metrics").text:
            pass
        server.process.send_signal(signal.SIGTERM)
        _until_it_drains(server.url)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=10) == 128 + signal.SIGTERM
        asking.join()


def _until_it_drains(url: str) -> None:
    """The first signal has arrived: no new connection is taken, or the probe says so."""
    with contextlib.suppress(httpx.HTTPError):
        while httpx.get(f"{url}/readyz").status_code == 200:
            pass


def _ask_in_vain(url: str) -> None:
    with contextlib.suppress(httpx.HTTPError):
        httpx.post(f"{url}/reward", json={"groups": [{**GROUP, "prompt": "p" * 500}]}, timeout=60)


def test_work_that_outlasts_the_drain_timeout_does_not_keep_the_process_and_is_told_so():
    with live("--engine", "dummy", "--dummy-token-seconds", "0.2", "--drain-timeout", "1") as server:
        told: list[httpx.Response] = []
        body = {"groups": [{**GROUP, "prompt": "p" * 500}]}
        asking = threading.Thread(
            target=lambda: told.append(httpx.post(f"{server.url}/reward", json=body, timeout=60))
        )
        asking.start()
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as dawdler:
            dawdler.sendall(b"POST /reward HTTP/1.1\r\nHost: me\r\nContent-Length: 9\r\n\r\n{")
            while "opera_running_trees 1.0" not in (text := httpx.get(f"{server.url}/metrics").text) or (
                "opera_requests_running 3.0" not in text
            ):
                pass
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(timeout=20) == 0
            asking.join()
            assert dawdler.recv(4096).startswith(b"HTTP/1.1 503 ")
        assert told[0].status_code == 503
        error = told[0].json()["error"]
        assert (error["code"], error["retryable"]) == ("unavailable", True)
        assert int(told[0].headers["Retry-After"]) >= 1
        assert server.process.stderr is not None
        assert "Traceback" not in server.process.stderr.read()


def test_a_port_in_use_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = refused("--engine", "dummy", "--port", port)
    assert port in line
    assert "in use" in line


@pytest.mark.parametrize(
    ("flags", "variables", "said"),
    [
        (["--engine", "steam"], {}, "steam"),
        (["--port", "0", "--model", "/nowhere/model"], {}, "/nowhere/model"),
        ([], {"OPERA_PORT": "many"}, "many"),
        (["--host", "no.such.host.invalid"], {}, "no.such.host.invalid"),
        (["--config", "/nowhere/opera.yaml"], {}, "/nowhere/opera.yaml"),
    ],
)
def test_wrong_settings_are_one_line(flags: list[str], variables: dict[str, str], said: str):
    assert said in refused(*flags, **variables)


def test_keys_are_asked_for(tmp_path: Path):
    file = tmp_path / "keys"
    file.write_text("sesame\n")
    with live("--engine", "dummy", "--api-key-file", str(file)) as server:
        assert httpx.get(f"{server.url}/model").status_code == 401
        assert httpx.get(f"{server.url}/model", headers={"X-API-Key": "sesame"}).status_code == 200
        assert httpx.get(f"{server.url}/livez").status_code == 200


def test_a_body_over_the_limit_is_answered_before_it_is_all_there():
    with live("--engine", "dummy", "--max-body-mb", "1") as server:
        answer = httpx.post(f"{server.url}/reward", content=b"x" * 3_000_000)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
        assert httpx.post(f"{server.url}/reward", json={"groups": [GROUP]}).status_code == 200


def test_the_embedded_model_is_served_by_default():
    with live() as server:
        model = httpx.get(f"{server.url}/model").json()
        assert (model["name"], model["engine"], model["dtype"]) == ("demo", "torch", "float32")
        assert server.url in server.line
        answer = httpx.post(f"{server.url}/reward", json={"groups": [GROUP]}, timeout=60).json()
        assert answer["groups"][0]["trajectories"][0]["status"] == "ok"


def test_a_hang_up_ends_nothing():
    with live("--engine", "dummy") as server:
        server.process.send_signal(signal.SIGHUP)
        assert httpx.get(f"{server.url}/livez").status_code == 200
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(timeout=30) == 0
