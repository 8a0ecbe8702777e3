"""Scored groups as tables for people: what each response earned, from what, and what each thought did to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from opera_client.files.journal import Record
from opera_client.wire import GroupResult, SegmentResult, TrajectoryResult

REFLECTIVE = "↺"


def show_record(record: Record) -> None:
    """Print one record of `score` on the terminal."""
    group = GroupResult.model_validate(record)
    console = Console(highlight=False)
    console.print(Text(f"group {group.group_id}", style="bold"))
    console.print(group_table(group), *remarks(group), sep="\n")


def group_table(group: GroupResult, *, more: Mapping[str, Sequence[Text | str]] | None = None) -> Table:
    """Return one row a trajectory: id, reward, components, perplexity, gains of its segments.

    Components that are 0 for everybody, or the reward itself, have no column.

    `more` holds further columns by heading, one cell a trajectory.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    names = [name for name in component_names(group) if _tells(group, name)]
    table.add_column("id", no_wrap=True)
    for name in ("reward", *names, "ppl"):
        table.add_column(name, justify="right", no_wrap=True, style="dim" if name in names else "")
    for heading in more or {}:
        table.add_column(heading, no_wrap=True)
    table.add_column("gains", min_width=6)  # folds on a narrow terminal, never disappears
    for place, trajectory in enumerate(group.trajectories):
        cells: list[Text | str] = [Text(trajectory.id), _number(trajectory.reward, "+.3f", bold=True)]
        cells += [_number((trajectory.components or {}).get(name), "+.3f") for name in names]
        cells += [_perplexity(trajectory.perplexity)]
        cells += [column[place] for column in (more or {}).values()]
        table.add_row(*cells, gains(trajectory.segments))
    return table


def remarks(group: GroupResult) -> list[Text]:
    """Return one line for every trajectory with an error or a flag, and one for a group that says nothing."""
    silent = [Text.assemble("remark: ", (group.message, "yellow"))] if group.message else []
    return silent + [
        Text.assemble(
            f"remark on {t.id}: ",
            (f"{t.error.code}: {t.error.message}", "red") if t.error else (", ".join(t.flags), "yellow"),
        )
        for t in group.trajectories
        if t.error or t.flags
    ]


def segment_table(trajectory: TrajectoryResult, initial: float | None, *, title: str = "") -> Table:
    """Return one row a segment of a trajectory: its text, and what it did to the reference.

    `initial` is the mean log-prob of the reference before any thought.
    """
    table = Table(title=Text(title, style="bold"), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", justify="right", style="dim")
    table.add_column("thought", overflow="fold", max_width=72)
    table.add_column("log-prob", justify="right")
    table.add_column("gain", justify="right")
    segments = trajectory.segments or ()
    paid = any(segment.credited for segment in segments)
    if paid:
        table.add_column("credited")
    table.add_row("", Text("(before any thought)", style="dim"), _number(initial, ".3f"), "")
    for segment in segments:
        text = Text(f"{REFLECTIVE} " if segment.reflective else "", style="magenta")
        text.append(segment.text.strip(), style="default")
        credited = [Text("yes" if segment.credited else "", style="magenta")] if paid else []
        table.add_row(
            str(segment.index + 1), text, _number(segment.mean_logprob, ".3f"), _gain(segment), *credited
        )
    return table


def component_names(group: GroupResult) -> list[str]:
    """Return the component names of a group's scored trajectories, in the service's order."""
    return list(dict.fromkeys(name for t in group.trajectories for name in t.components or {}))


def _tells(group: GroupResult, name: str) -> bool:
    """Whether a component says what the reward beside it does not."""
    pairs = [(t.components[name], t.reward) for t in group.trajectories if t.components and name in t.components]
    return any(value != 0 for value, _ in pairs) and any(value != reward for value, reward in pairs)


def gains(segments: Sequence[SegmentResult] | None) -> Text:
    """Return the gains of a trajectory in one line."""
    line = Text()
    for segment in segments or ():
        if line:
            line.append(" ")
        if segment.reflective:
            line.append(REFLECTIVE, style="magenta")
        line.append_text(_gain(segment))
    return line


def _gain(segment: SegmentResult) -> Text:
    colour = "green" if segment.gain > 0.005 else "red" if segment.gain < -0.005 else "dim"
    return Text(f"{segment.gain:+.2f}", style=colour)


def _perplexity(value: float | None) -> Text:
    return _number(value, ".2f" if value is None or value < 1000 else ".1e")


def _number(value: float | None, form: str, *, bold: bool = False) -> Text:
    if value is None:
        return Text("-", style="dim")
    return Text(format(value, form), style="bold" if bold else "")
