"""Groups made by hand, in memory as the service keeps them."""

import math
from collections.abc import Callable, Sequence

import pytest

from opera_client.wire import SegmentResult
from opera_service.audit.entries import Entry, MemberEntry, Sent
from opera_service.ui.live_page import LivePage
from opera_service.ui.source import Memory


def member(
    name: str,
    reward: float | None = 0.5,
    *,
    text: str | None = None,
    tokens: int = 10,
    flags: Sequence[str] = (),
    fresh: bool = True,
    components: dict[str, float] | None = None,
) -> MemberEntry:
    scored = reward is not None
    return MemberEntry(
        id=name,
        fresh=fresh,
        status="ok" if scored else "error",
        reward=reward,
        components=(components or {"relative": reward, "reflection": 0.0}) if scored else None,
        mean_logprob=math.log(0.25) if scored else None,
        flags=tuple(flags),
        error=None if scored else "context_too_long",
        response=Sent(text if text is not None else f"<think>thought of {name}</think>answer of {name}"),
        response_tokens=tokens,
        segments=(
            SegmentResult(
                index=0,
                start=1,
                end=4,
                text="thought",
                reflective=True,
                mean_logprob=-1.5,
                gain=0.5,
                credited=True,
            ),
        )
        if scored
        else None,
    )


def entry(
    group_id: str,
    *members: MemberEntry,
    run: str | None = "run",
    step: int | None = 0,
    time: float = 1.0,
    **changes,
) -> Entry:
    return Entry(
        time=time, request_id="r", run_id=run, step=step, group_id=group_id, task="open", reward="opera",
        preset="hardened", config={}, config_hash="abc", model="demo", revision="sha256:0",
        weight_version=changes.pop("weights", "0"), dtype="float32", engine="torch", initial_mean_logprob=-2.0,
        members=members, prompt=Sent(changes.pop("prompt", "why?")), reference=Sent("because"), reference_tokens=3,
        diagnostics={"margin": 0.1}, **changes,
    )  # fmt: skip


Keep = Callable[..., LivePage]


@pytest.fixture
def keep() -> Keep:
    """Return a page over memory that holds the given groups."""

    def kept(*entries: Entry, limit_bytes: int = 2**26) -> LivePage:
        memory = Memory(limit_bytes)
        page = LivePage(memory, texts_kept=True)
        for one in entries:
            memory.write([one])
            page.written()
        return page

    return kept
