"""Math-verify for a whole service: a few processes, shared fairly between training runs, with budgets.

One answer may keep a process busy until it is killed. So equal questions are asked once, what was said is kept,
each run has its turn, a group may use only so many seconds, and whoever waits can leave. Knows questions and runs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

from cachetools import LRUCache

from opera_client.errors import OperaError, OutcomeUnavailable, Overloaded
from opera_service.rewards.verifier import Question, Verifier
from opera_service.scoring.admission import QueueLimits
from opera_service.scoring.dispatcher import Dispatcher, Done

Verdict: TypeAlias = bool | OutcomeUnavailable
"""Equal or not, or why that cannot be told."""

GROUP_BUDGET_S = 20.0
"""Seconds of all processes that the questions of one group may take together."""
IDLE_S = 300.0
"""A trainer asks once a step; a new process is ready in about a second."""
_REMEMBERED = 50_000


class VerifierPool:
    """Some `Verifier`s behind a dispatcher. Used from one event loop.

    Processes start with the first question, and end when nobody has asked for `idle_s`: each has 50 MB of its own.
    """

    def __init__(
        self,
        workers: int = 2,
        *,
        deadline_s: float = 5.0,
        group_budget_s: float = GROUP_BUDGET_S,
        idle_s: float = IDLE_S,
    ) -> None:
        self._verifiers = [Verifier(deadline_s=deadline_s) for _ in range(workers)]
        self._idle = list(self._verifiers)
        self._budget_s, self._idle_s = group_budget_s, idle_s
        self._rest: asyncio.TimerHandle | None = None
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="opera-verify")
        self._known: LRUCache[Question, Verdict] = LRUCache(_REMEMBERED)
        self._failed_once: LRUCache[Question, bool] = LRUCache(_REMEMBERED)
        self._dispatcher: Dispatcher[Question, tuple[Verdict, float]] = Dispatcher(
            self._ask_all, workers, tokens=lambda _: 1, limits=QueueLimits(max_requests=2**20, max_tokens=2**30)
        )

    async def verdicts(
        self, groups: Sequence[Collection[Question]], *, run: str = "", deadline: float | None = None
    ) -> dict[Question, Verdict]:
        """Return what is known in the end about every question.

        A question that waits until `deadline` (a time of `time.monotonic`), or whose group has used its budget,
        gets an `OutcomeUnavailable`. Cancelling takes waiting questions out of the queue.
        """
        found: dict[Question, Verdict] = {}
        await asyncio.gather(*(self._group(set(group), found, run, deadline) for group in groups))
        return found

    async def aclose(self) -> None:
        """End all processes."""
        self._stop_resting()
        await self._dispatcher.aclose()
        for verifier in self._verifiers:
            await asyncio.to_thread(verifier.close)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _group(
        self, questions: set[Question], found: dict[Question, Verdict], run: str, deadline: float | None
    ) -> None:
        left, at_once = self._budget_s, len(self._verifiers)
        known = {question: self._known[question] for question in questions if question in self._known}
        found |= known
        asked = sorted(questions - known.keys())
        with self._dispatcher.reserve(run, about=len(asked)) as reservation:
            for start in range(0, len(asked), at_once):
                part = asked[start : start + at_once]
                if left <= 0:
                    found |= dict.fromkeys(part, _over_budget(self._budget_s))
                    continue
                try:
                    done = await self._dispatcher.answer_all(part, deadline=deadline, reservation=reservation)
                except Overloaded as error:  # it would not be told before the deadline
                    done = [error] * len(part)
                for question, outcome in zip(part, done, strict=True):
                    found[question], seconds = self._settled(question, outcome)
                    left -= seconds

    def _settled(
        self, question: Question, outcome: Done[tuple[Verdict, float]] | OperaError
    ) -> tuple[Verdict, float]:
        if isinstance(outcome, OperaError):
            return OutcomeUnavailable(f"the answer was not verified: {outcome.message}"), 0.0
        verdict = outcome.answer[0]
        # On a busy machine an honest answer may come too late: it is asked once more, as a hostile one is.
        if isinstance(verdict, OutcomeUnavailable) and question not in self._failed_once:
            self._failed_once[question] = True
        else:
            self._known[question] = verdict
        return outcome.answer

    async def _ask_all(self, questions: Sequence[Question]) -> list[tuple[Verdict, float]]:
        loop = asyncio.get_running_loop()
        self._stop_resting()
        try:
            return await asyncio.gather(
                *(loop.run_in_executor(self._threads, self._ask, one) for one in questions)
            )
        finally:
            self._rest = loop.call_later(self._idle_s, self._end_processes)

    def _stop_resting(self) -> None:
        if self._rest is not None:
            self._rest.cancel()

    def _end_processes(self) -> None:
        for verifier in self._verifiers:
            self._threads.submit(verifier.close)

    def _ask(self, question: Question) -> tuple[Verdict, float]:
        """Ask an idle process; blocking. There are as many as threads."""
        verifier, started = self._idle.pop(), time.monotonic()
        try:
            verdict: Verdict = verifier.equal(question)
        except OutcomeUnavailable as problem:
            verdict = problem
        finally:
            self._idle.append(verifier)
        return verdict, time.monotonic() - started


def _over_budget(budget_s: float) -> OutcomeUnavailable:
    return OutcomeUnavailable(
        f"the answers of this group took more than {budget_s:g} s to verify; this one was not"
    )
