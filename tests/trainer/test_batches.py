"""Batches into a journal, on the service's real app with the embedded model: resumed is as uninterrupted."""

from __future__ import annotations

import asyncio
import resource
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from opera_client import AsyncRewardClient
from opera_client.errors import BadInput, ServiceUnreachable
from opera_client.wire import ErrorDetail
from opera_trainer.artefacts import Task
from opera_trainer.batches import Batches
from opera_trainer.settings.synthesis import SynthesisSettings
from opera_trainer.settings.tasks import TasksSettings
from opera_trainer.synthesis.search import Found, search
from opera_trainer.tasks.world import files

SETTINGS = SynthesisSettings(candidates=2, guided=1, max_steps=3, batch=2)
RUN = {"model": "demo"}


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    return list(files(TasksSettings(synthesis=6, train=1, validation=0, test=0), 0)["synthesis"])


@pytest.fixture
async def client() -> AsyncIterator[AsyncRewardClient]:
    async with AsyncRewardClient.in_process(engine="torch", options={"max_items": 2}) as found:
        yield found


def batches(path: Path, said: Callable[[int, int], Any] = lambda *_: None, concurrency: int = 1) -> Batches[Found]:
    return Batches(
        Found, lambda task: search(task, SETTINGS, 0), path=path, batch=2, concurrency=concurrency, progress=said
    )


async def test_interrupted_and_resumed_equals_uninterrupted(
    client: AsyncRewardClient, tasks: list[Task], tmp_path: Path
):
    whole, seconds = await batches(tmp_path / "whole.jsonl").run(client, tasks, RUN, "0")
    assert [one.task_id for one in whole if isinstance(one, Found)] == [task.id for task in tasks]
    assert seconds > 0

    running = asyncio.ensure_future(
        batches(tmp_path / "cut.jsonl", lambda done, _: done == 2 and running.cancel()).run(
            client, tasks, RUN, "0"
        )
    )
    with pytest.raises(asyncio.CancelledError):
        await running
    with (tmp_path / "cut.jsonl").open("r+b") as file:  # and killed in the middle of its second line
        lines = file.read().splitlines(keepends=True)
        assert len(lines) == 2
        file.truncate(len(lines[0]) + 40)
    resumed, _ = await batches(tmp_path / "cut.jsonl").run(client, tasks, RUN, "0")
    assert resumed == whole
    again, spent = await batches(tmp_path / "cut.jsonl").run(client, tasks, RUN, "0")
    assert again == whole
    assert spent > 0


async def test_two_batches_in_flight_give_the_same(client: AsyncRewardClient, tasks: list[Task], tmp_path: Path):
    one, _ = await batches(tmp_path / "one.jsonl").run(client, tasks, RUN, "0")
    two, _ = await batches(tmp_path / "two.jsonl", concurrency=2).run(client, tasks, RUN, "0")
    assert [found.response for found in two] == [found.response for found in one]


async def test_a_journal_of_another_run_is_refused(client: AsyncRewardClient, tasks: list[Task], tmp_path: Path):
    await batches(tmp_path / "j.jsonl").run(client, tasks[:2], RUN, "0")
    with pytest.raises(BadInput, match='begun with model "demo", not "other"'):
        await batches(tmp_path / "j.jsonl").run(client, tasks[:2], {"model": "other"}, "0")
    with pytest.raises(BadInput, match="answers another input"):
        await batches(tmp_path / "j.jsonl").run(client, tasks[2:4], RUN, "0")


async def test_a_task_that_cannot_be_priced_fails_alone(
    client: AsyncRewardClient, tasks: list[Task], tmp_path: Path
):
    long = tasks[1].model_copy(update={"reference": "pears " * 5000})
    results, _ = await batches(tmp_path / "j.jsonl").run(client, [tasks[0], long, tasks[2]], RUN, "0")
    assert isinstance(results[0], Found)
    assert isinstance(results[1], ErrorDetail)
    assert results[1].code == "context_too_long"
    assert isinstance(results[2], Found)
    alone, _ = await batches(tmp_path / "k.jsonl").run(client, [long], RUN, "0")
    assert isinstance(alone[0], ErrorDetail)


async def test_a_dead_service_says_what_is_safe(client: AsyncRewardClient, tasks: list[Task], tmp_path: Path):
    path = tmp_path / "j.jsonl"
    expected, _ = await batches(path).run(client, tasks, RUN, "0")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]))
    async with AsyncRewardClient("http://127.0.0.1:9", retries=0, timeout=5) as dead:
        with pytest.raises(ServiceUnreachable, match=r"2 of 6 tasks are finished and safe in .*j\.jsonl, repeat"):
            await batches(path).run(dead, tasks, RUN, "0")
    assert path.read_bytes() == b"".join(lines[:2])
    assert (await batches(path).run(client, tasks, RUN, "0"))[0] == expected


async def test_a_full_disk_says_so_and_loses_nothing(client: AsyncRewardClient, tasks: list[Task], tmp_path: Path):
    expected, _ = await batches(tmp_path / "whole.jsonl").run(client, tasks, RUN, "0")
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    one = len((tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)[0])
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # else the process would be killed, not told
    resource.setrlimit(resource.RLIMIT_FSIZE, (one + 100, unlimited[1]))
    try:
        with pytest.raises(BadInput, match=r"cannot write .*j\.jsonl.*run the same command again to go on"):
            await batches(tmp_path / "j.jsonl").run(client, tasks, RUN, "0")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        signal.signal(signal.SIGXFSZ, before)
    assert (tmp_path / "j.jsonl").stat().st_size == one + 100
    assert (await batches(tmp_path / "j.jsonl").run(client, tasks, RUN, "0"))[0] == expected
