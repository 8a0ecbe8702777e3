"""The `--plot` page of `score`: keeps the first records, then writes them as one HTML file."""

from __future__ import annotations

from pathlib import Path

from opera_cli.exits import say
from opera_cli.written import must_be_writable
from opera_client.errors import BadInput
from opera_client.files.journal import Record
from opera_client.wire import Group, GroupResult

MAX_GROUPS = 40
"""Groups on a page; more would make it slow to open."""


class PlotPage:
    """Remembers what the page will show."""

    def __init__(self, path: Path, *, source: Path, out: Path | None) -> None:
        """Find out before the long work whether the page can be written. Raises `BadInput`."""
        must_be_writable(path, "--plot", others={"the input file": source, "what -o writes": out})
        self._path = path
        self._records: list[Record] = []

    def __len__(self) -> int:
        """Return the number of groups that will be shown."""
        return len(self._records)

    def see(self, record: Record) -> None:
        """Keep a record while there is room."""
        if len(self._records) < MAX_GROUPS:
            self._records.append(record)

    def write(self, groups: list[Group], *, total: int) -> None:
        """Write the page about the kept records; `groups` are their inputs."""
        from opera_client.plot import write_page

        results = [GroupResult.model_validate(record) for record in self._records]
        run = self._records[0]["run"]
        try:
            write_page(self._path, results, groups, run=run, total=total)
        except OSError as error:
            raise BadInput(f"cannot write {self._path}: {error.strerror}; choose another --plot") from None
        more = f" (the first {len(results)} of {total} groups)" if total > len(results) else ""
        say(f"plot -> {self._path}{more}")
