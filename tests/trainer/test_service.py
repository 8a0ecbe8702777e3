"""The reward service as a child process: it answers, it ends with the block, and its failure is told."""

import httpx
import pytest

from opera_client import RewardClient
from opera_client.errors import BadInput, Unavailable
from opera_trainer.config import RunConfig, ServiceSettings
from opera_trainer.service import serving


def config(**service) -> RunConfig:
    return RunConfig(name="test", service=ServiceSettings(**service))


def test_a_child_serves_while_the_block_runs(monkeypatch):
    monkeypatch.setenv("OPERA_MODEL", "/nowhere")  # of another service; must not reach the child
    with serving(config(engine="dummy"), "demo") as url, RewardClient(url) as client:
        assert client.policy().weight_version == "0"
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/livez")


def test_a_child_that_cannot_start_says_why(tmp_path):
    with (
        pytest.raises(Unavailable, match=r"did not start: opera-reward serve: .*nowhere"),
        serving(config(), tmp_path / "nowhere"),
    ):
        raise AssertionError("started")


def test_a_wrong_flag_is_told():
    settings = config(engine="dummy", options={"no_such_flag": 1})
    with pytest.raises(Unavailable, match="no-such-flag"), serving(settings, "demo"):
        raise AssertionError("started")


def test_a_given_service_is_used_as_it_is():
    with serving(config(engine="dummy", url="http://elsewhere:1"), "demo", own=True) as url:
        assert "elsewhere" not in url, "a model of one's own is served by a service of one's own"
    with serving(config(url="http://elsewhere:1"), "demo") as url:
        assert url == "http://elsewhere:1"


def test_several_processes_need_a_given_service(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BadInput, match=r"service\.url"), serving(config(), "demo"):
        raise AssertionError("started")
