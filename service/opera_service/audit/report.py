"""What a replay changed, as text for people."""

from __future__ import annotations

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from opera_service.audit.changes import Changes
from opera_service.audit.rescore import NOT_KEPT


def show(changes: Changes, console: Console) -> None:
    """Print the summary, then the largest changes."""
    console.print(Text(f"{changes.groups} groups were scored by {_listed(changes.then)}"))
    console.print(Text(f"and are scored again by {_listed(changes.now) or 'nobody'}."))
    if changes.series:
        console.print(_numbers(changes))
    console.print(
        Text(
            f"{changes.changed} of {changes.compared} rewards changed by more than {changes.tolerance:g}; "
            f"order lost in {changes.turned} of {changes.pairs} pairs; "
            f"best kept in {changes.best_kept} of {changes.best_groups} groups."
        )
    )
    if changes.other_config:
        console.print(
            Text(f"In {changes.other_config} groups, reward and preset mean another configuration by now.")
        )
    for reason, count in sorted(changes.missing.items()):
        said = "could not be scored then, and can now" if reason == "recovered" else f"not scored again: {reason}"
        hint = " (record with --audit-texts)" if reason == NOT_KEPT else ""
        console.print(Text(f"{count} trajectories {said}{hint}."))
    if changes.worst:
        console.print(_worst(changes))


def _numbers(changes: Changes) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("mean", no_wrap=True)
    for heading in ("then", "now", "change", "|change|", "largest"):
        table.add_column(heading, justify="right", no_wrap=True)
    first = {name: changes.series[name] for name in ("reward",) if name in changes.series}
    for name, one in {**first, **dict(sorted(changes.series.items()))}.items():
        then, now = sum(one.then) / len(one.then), sum(one.now) / len(one.now)
        table.add_row(
            name, f"{then:+.4f}", f"{now:+.4f}", f"{one.change:+.4f}", f"{one.distance:.2g}", f"{one.largest:.2g}"
        )
    return table


def _worst(changes: Changes) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title="Largest changes", title_justify="left")
    for heading in ("run", "step", "group", "id"):
        table.add_column(heading, overflow="fold")
    for heading in ("then", "now", "change"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in changes.worst:
        step = "" if one.group.step is None else str(one.group.step)
        where = (one.group.run_id or "", step, one.group.group_id, one.id)
        numbers = (f"{one.then:+.4f}", f"{one.now:+.4f}", f"{one.now - one.then:+.4f}")
        table.add_row(*map(Text, where), *numbers)
    return table


def _listed(names: Mapping[str, int]) -> str:
    return "; ".join(f"{name} ({count})" if len(names) > 1 else name for name, count in names.items())
