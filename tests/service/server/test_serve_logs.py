"""What `opera-reward serve` writes to stderr, with everything it could say switched on."""

import json
import signal

import httpx
import pytest

from ..live import live

SECRET = "xylophone-marmalade"
GROUP = {"prompt": SECRET, "reference": SECRET, "trajectories": [{"response": f"<think>{SECRET}</think>{SECRET}"}]}


def everything_asked(*flags: str) -> str:
    """Ask a server all kinds of things about a secret, good and bad; return its log."""
    with live("--engine", "dummy", "--log-level", "debug", *flags) as server:
        with httpx.Client(base_url=server.url, headers={"X-Request-Id": "mine-1"}) as client:
            client.post("/reward", json={"groups": [GROUP]})
            client.post("/reward", json={"groups": [GROUP], SECRET: SECRET})
            client.post("/reward", content=f'{{"groups": {SECRET}'.encode())
            client.post("/reward/member", json={**GROUP, "group_id": "g", "group_size": 1, "member_id": "m"})
            client.post(
                "/openrlhf/reward?group_size=1", json={"query": [SECRET], "prompts": [""], "labels": [SECRET]}
            )
            client.post("/rank", json={"items": [{"prompt": SECRET, "candidates": [SECRET, "b"]}]})
            client.post(
                "/v1/completions", json={"model": "dummy", "prompt": SECRET, "echo": True, "max_tokens": 0}
            )
            client.post("/tokenize", json={"prompt": SECRET})
            client.get("/nowhere")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=30) == 0
        return server.process.stderr.read()


def test_json_lines_name_requests_and_hold_no_prompt():
    log = everything_asked("--log-format", "json")
    assert SECRET not in log
    lines = [json.loads(line) for line in log.splitlines()]
    seen = [line for line in lines if line["logger"] == "opera_service.access"]
    assert {line["request_id"] for line in seen} == {"mine-1"}
    assert [(line["route"], line["status"]) for line in seen][:3] == [
        ("/reward", 200),
        ("/reward", 422),
        ("/reward", 400),
    ]
    assert seen[-1]["route"] == "unmatched"
    assert all(line["ms"] > 0 for line in seen)


@pytest.mark.parametrize("flags", [(), ("--log-prompts",)])
def test_text_lines_do_neither(flags):
    log = everything_asked(*flags)
    assert SECRET not in log  # nothing failed: even --log-prompts quotes in lines about failures only
    assert "opera_service.access [mine-1]: POST /reward 200 in " in log
