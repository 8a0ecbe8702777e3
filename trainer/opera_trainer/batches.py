"""What many tasks ask of a service, batch by batch, into a journal that an interrupted run goes on with.

A batch always holds the same tasks, so that what one task gets does not depend on where a run was interrupted.
Knows the client and the journal; not what is asked.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from opera_client import AsyncRewardClient
from opera_client.errors import OperaError
from opera_client.files.journal import Journal, Record
from opera_client.wire import ErrorDetail
from opera_trainer.artefacts import Task
from opera_trainer.lockstep import Running, lockstep

R = TypeVar("R", bound=BaseModel)


class Batches(Generic[R]):
    """Runs one kind of questions over tasks and remembers every result on disk."""

    def __init__(
        self,
        kind: type[R],
        begin: Callable[[Task], Running[R]],
        *,
        path: Path,
        batch: int,
        concurrency: int,
        progress: Callable[[int, int], None],
        look: Callable[[Sequence[R | ErrorDetail]], None] = lambda _: None,
        patience_s: float = 20.0,
    ) -> None:
        """Remember what to do.

        Args:
            kind: of a result.
            begin: starts on a task.
            path: of the journal.
            batch: tasks that are worked on side by side.
            concurrency: batches in flight.
            progress: told (done, all) tasks, after each batch and every `patience_s` seconds at most.
            look: sees all results so far after each batch, in order; what it raises ends the run.
            patience_s: seconds.
        """
        self._look, self._patience_s = look, patience_s
        self._kind, self._begin, self._path = kind, begin, path
        self._batch, self._concurrency, self._progress = batch, concurrency, progress
        self._last = time.monotonic()

    async def run(
        self, client: AsyncRewardClient, tasks: Sequence[Task], run: dict[str, Any], weight_version: str
    ) -> tuple[list[R | ErrorDetail], float]:
        """Return the results in the order of `tasks`, and the seconds they took in all runs together.

        Args:
            client: of the service.
            tasks: equal lists in all runs of the same journal.
            run: names what shapes the results; a journal of another run is refused.
            weight_version: of the service.

        Raises:
            OperaError: the service failed; what is finished stays in the journal.
            BadInput: the journal cannot be written, or belongs to another run.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        results: list[R | ErrorDetail] = []
        seconds = [0.0]

        def seen(record: Record) -> None:
            failed = record.get("error")
            results.append(
                ErrorDetail.model_validate(failed) if failed else self._kind.model_validate(record["found"])
            )
            seconds[0] += record["seconds"]

        digests = [hashlib.sha256(task.model_dump_json().encode()).hexdigest()[:16] for task in tasks]
        journal = Journal(self._path, run)
        journal.claim()
        try:
            journal.resume(lambda at: digests[at] if at < len(digests) else None, seen)
            over = journal.done

            def ended() -> None:
                nonlocal over
                over += 1
                if time.monotonic() - self._last > self._patience_s and over < len(tasks):
                    self._told(over, len(tasks))

            begun = journal.done - journal.done % self._batch if journal.done < len(tasks) else len(tasks)
            starts = range(begun, len(tasks), self._batch)
            waiting = [
                asyncio.ensure_future(coroutine)
                for coroutine in self._limited(
                    client, [tasks[at : at + self._batch] for at in starts], weight_version, ended
                )
            ]
            try:
                for at, future in zip(starts, waiting, strict=True):
                    found, took = await future
                    for place, result in enumerate(found, start=at):
                        if place >= journal.done:
                            record = {"seconds": round(took / len(found), 6), **_spelled(result)}
                            seen(journal.append(digests[place], record))
                    self._told(journal.done, len(tasks))
                    self._look(results)
            finally:
                for future in waiting:
                    future.cancel()
                await asyncio.gather(*waiting, return_exceptions=True)
        except OperaError as error:
            error.message = (
                f"{error.message}; {journal.done} of {len(tasks)} tasks are finished and safe in {self._path},"
                " repeat the command to go on"
            )
            raise
        finally:
            journal.close()
        return results, seconds[0]

    def _told(self, done: int, every: int) -> None:
        self._last = time.monotonic()
        self._progress(done, every)

    def _limited(  # type: ignore[no-untyped-def]
        self,
        client: AsyncRewardClient,
        parts: Sequence[Sequence[Task]],
        weight_version: str,
        ended: Callable[[], None],
    ):
        gate = asyncio.Semaphore(self._concurrency)

        async def one(part: Sequence[Task]) -> tuple[list[R | ErrorDetail], float]:
            async with gate:
                start = time.monotonic()
                searches = {task.id: self._begin(task) for task in part}
                found = await lockstep(client, searches, weight_version, ended)
                return list(found.values()), time.monotonic() - start

        return [one(part) for part in parts]


def _spelled(result: BaseModel) -> Record:
    name = "error" if isinstance(result, ErrorDetail) else "found"
    return {name: result.model_dump(mode="json")}
