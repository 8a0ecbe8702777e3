"""The live page's side of the service: hears of rewarded and refused groups, answers what the page asks.

Blocking calls, for worker threads; knows no HTTP.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

from opera_client.errors import NotFound
from opera_client.wire import RewardRequest
from opera_service.ui.duplicates import duplicates_page
from opera_service.ui.feed import Feed
from opera_service.ui.queries import Filter, groups_page, members_of, trajectories_page
from opera_service.ui.rows import group_detail
from opera_service.ui.source import Memory, Source
from opera_service.ui.trends import Tally, Trends
from opera_service.ui.visible import ASK_AGAIN, VISIBLE, of_run, run_of

CHUNK = 500
"""Groups that are added up at a time."""
OF_GROUP = "key, time, run_id, step, group_id, reward, preset, weight_version, expected, superseded"
"""Columns of `groups` that curves are added up from; prompts stay where they are."""
ADDED_UP = "group_key, fresh, reward, components, mean_logprob, flags, response_tokens"
"""Those of `trajectories`."""
MAX_MISSING = 10_000
"""Groups of refused requests that are remembered until they come."""

_GroupName = tuple[str, int | None, str]
"""Run, step and group id."""


class LivePage:
    """What is kept, added up, and told to open pages."""

    def __init__(self, source: Source, *, texts_kept: bool) -> None:
        self.feed = Feed()
        self.texts_kept = texts_kept
        self.lost: Callable[[], int] = lambda: 0
        """Says how many trajectories could not be kept; set by who writes them."""
        self.source = source
        self._trends = Trends()
        self._added_up = 0
        """Largest key that is in the trends."""
        self._missing: OrderedDict[_GroupName, None] = OrderedDict()
        self._missing_lock = threading.Lock()
        if isinstance(source, Memory):
            source.before_dropping = self._catch_up

    @property
    def memory(self) -> Memory | None:
        """Where groups are to be written for this page alone; None where it reads the audit log."""
        return self.source if isinstance(self.source, Memory) else None

    # --- what happens --------------------------------------------------------------------------------------

    def written(self) -> None:
        """Take note of new rows; called by the thread that writes them.

        They are added up when somebody looks, or when there are many: at once would cost every request its part.
        """
        with self.source.connection() as connection:
            if _newest(connection) - self._added_up >= CHUNK:
                self._catch_up(connection)
        self.feed.tell()

    def refused(self, request: RewardRequest) -> None:
        """Take note of groups that were answered with an error as a whole: they are missing until they come."""
        if request.run_id == ASK_AGAIN:
            return
        with self._missing_lock:
            for index, group in enumerate(request.groups):
                name = str(index) if group.group_id is None else group.group_id
                self._missing[run_of(request.run_id), request.step, name] = None
            while len(self._missing) > MAX_MISSING:
                self._missing.popitem(last=False)
        self.feed.tell()

    def _catch_up(self, connection: sqlite3.Connection) -> None:
        if _newest(connection) < self._added_up:  # the log was moved away, and this is a new one
            self._added_up = 0
        while found := connection.execute(
            f"SELECT {OF_GROUP} FROM groups WHERE key > ? ORDER BY key LIMIT ?", [self._added_up, CHUNK]
        ).fetchall():
            members = members_of(connection, [group["key"] for group in found], columns=ADDED_UP)
            for group in found:
                self._add(connection, group, members[group["key"]])
            self._added_up = found[-1]["key"]

    def _add(self, connection: sqlite3.Connection, group: sqlite3.Row, members: list[sqlite3.Row]) -> None:
        if group["run_id"] == ASK_AGAIN or group["superseded"]:
            return
        self._trends.add(group, members)
        if not all(one["fresh"] for one in members):
            self._trends.replace(group["run_id"], group["step"], _tally(connection, group))
        with self._missing_lock:
            self._missing.pop((run_of(group["run_id"]), group["step"], group["group_id"]), None)

    # --- what is asked -------------------------------------------------------------------------------------

    def overview(self) -> dict[str, Any]:
        """Return all runs, and what is kept."""
        with self.source.connection() as connection:
            self._catch_up(connection)
            groups = connection.execute(f"SELECT count(*) FROM groups AS g WHERE {VISIBLE}").fetchone()[0]
            with self._missing_lock:
                missing = Counter(run for run, _, _ in self._missing)
            dropped: Counter[str] = Counter()
            for run_id, count in self.source.dropped.items():
                dropped[run_of(run_id)] += count
            runs = self._trends.summary(missing, dropped)
        storage = {
            "kind": self.source.kind,
            "groups": groups,
            "bytes": self.source.bytes(),
            "limit_bytes": self.source.limit_bytes,
            "dropped_groups": self.source.dropped.total(),
            "lost_trajectories": self.lost(),
        }
        return {"texts_kept": self.texts_kept, "storage": storage, "runs": runs}

    def series(self, run: str) -> dict[str, Any]:
        """Return one run step by step."""
        with self.source.connection() as connection:
            self._catch_up(connection)
            return self._trends.series(run)

    def groups(self, asked: Filter, offset: int, limit: int) -> dict[str, Any]:
        with self.source.connection() as connection:
            return groups_page(connection, asked, offset, limit)

    def trajectories(self, asked: Filter, offset: int, limit: int) -> dict[str, Any]:
        page = duplicates_page if asked.question == "duplicates" else trajectories_page
        with self.source.connection() as connection:
            return page(connection, asked, offset, limit)

    def group(self, key: int) -> dict[str, Any]:
        """Return one group whole. Raises `NotFound` when it is not, or no longer, kept."""
        with self.source.connection() as connection:
            group = connection.execute("SELECT * FROM groups WHERE key = ?", [key]).fetchone()
            if group is None:
                raise NotFound(f"group {key} is not kept; it may have made room for newer ones")
            own, values = of_run(run_of(group["run_id"]))
            beside = f"FROM groups AS g WHERE {VISIBLE} AND {own} AND g.key"
            previous = connection.execute(f"SELECT max(key) {beside} < ?", [*values, key]).fetchone()[0]
            following = connection.execute(f"SELECT min(key) {beside} > ?", [*values, key]).fetchone()[0]
            members = members_of(connection, [key])[key]
            return group_detail(group, members, previous=previous, following=following)

    def close(self) -> None:
        """Let go of what is kept."""
        self.source.close()


def _newest(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT coalesce(max(key), 0) FROM groups").fetchone()[0])


def _tally(connection: sqlite3.Connection, like: sqlite3.Row) -> Tally:
    """Add up the step of a group again: one of its groups was scored again."""
    tally = Tally()
    groups = connection.execute(
        f"SELECT {OF_GROUP} FROM groups WHERE run_id IS ? AND step IS ? AND NOT superseded ORDER BY key",
        [like["run_id"], like["step"]],
    ).fetchall()
    members = members_of(connection, [group["key"] for group in groups], columns=ADDED_UP)
    for group in groups:
        tally.add(group, members[group["key"]])
    return tally
