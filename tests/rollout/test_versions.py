"""Which vLLMs the plug-in works with, and that others are left alone."""

from __future__ import annotations

import logging

import pytest

from opera_vllm import register, versions


def test_this_one_is_known():
    assert versions.refusal() is None


@pytest.mark.parametrize("other", ["0.23.1", "0.33.0", "1.0.0", "0.9.2"])
def test_another_is_left_alone(other, monkeypatch, caplog):
    from vllm.config import SchedulerConfig

    monkeypatch.setattr(versions, "installed", lambda: other)
    monkeypatch.setattr(SchedulerConfig, "get_scheduler_cls", lambda self: "vLLM's own")
    monkeypatch.setattr(logging.getLogger("vllm"), "propagate", True)
    register()
    assert SchedulerConfig.get_scheduler_cls(None) == "vLLM's own"
    assert f"this is vLLM {other}, and the plug-in knows 0.24 to 0.32" in caplog.text


def test_a_seam_that_moved_is_named(monkeypatch):
    from vllm.v1.core.kv_cache_coordinator import KVCacheCoordinator

    monkeypatch.setattr(KVCacheCoordinator, "find_longest_cache_hit", lambda self, request: None)
    assert "another KVCacheCoordinator.find_longest_cache_hit: ('request',)" in (versions.refusal() or "")


def test_registering_twice_wraps_once():
    from vllm.config import SchedulerConfig

    register()
    once = SchedulerConfig.get_scheduler_cls
    register()
    assert SchedulerConfig.get_scheduler_cls is once


def test_asynchronous_scheduling_stays():
    from vllm.v1.core.sched.async_scheduler import AsyncScheduler

    from opera_vllm.scheduler import scoring

    ours = scoring(AsyncScheduler)
    assert issubclass(ours, AsyncScheduler)
    assert scoring(ours) is ours


def test_whatever_goes_wrong_is_logged_and_no_more(monkeypatch, caplog):
    def broken() -> str:
        raise RuntimeError("injected")

    monkeypatch.setattr(logging.getLogger("vllm"), "propagate", True)
    monkeypatch.setattr("opera_vllm.refusal", broken)
    register()
    assert "scores nothing from the prefix cache" in caplog.text
