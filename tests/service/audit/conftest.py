"""Entries made by hand, and patience with a thread."""

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from opera_client.wire import SegmentResult
from opera_service.audit.entries import Entry, MemberEntry, Sent

MEMBER = MemberEntry(
    id="a", fresh=True, status="ok", reward=0.75, components={"relative": 1.0, "reflection": -0.5},
    mean_logprob=-1.5,
    flags=("repetition",), error=None, response=Sent("a thought", [1, 2, 3]), response_tokens=3,
    segments=(
        SegmentResult(
            index=0, start=0, end=2, text="a", reflective=True, mean_logprob=-1.5, gain=0.5, credited=True,
            token_logprobs=[-1.0, -2.0],
        ),
    ),
)  # fmt: skip
FAILED = MemberEntry(
    id="b", fresh=True, status="error", reward=None, components=None, mean_logprob=None, flags=(),
    error="empty_response", response=Sent("", None),
)  # fmt: skip
ENTRY = Entry(
    time=1767225600.5, request_id="r-1", run_id="run", step=3, group_id="g", task="open", reward="opera",
    preset="hardened", config={"final": "thought"}, config_hash="abc", model="demo", revision="sha256:0",
    weight_version="7", dtype="float32", engine="torch", initial_mean_logprob=-2.0, members=(MEMBER, FAILED),
    prompt=Sent([{"role": "user", "content": "why? 为什么"}], None), reference=Sent("because", [9]),
    reference_tokens=1, diagnostics={"margin": 0.1},
)  # fmt: skip


@pytest.fixture
def entry() -> Callable[..., Entry]:
    return lambda **changes: replace(ENTRY, **changes)


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    def wait(is_so: Callable[[], bool]) -> None:
        end = time.monotonic() + 60
        while not is_so():
            assert time.monotonic() < end, "it never happened"
            time.sleep(0.005)

    return wait
