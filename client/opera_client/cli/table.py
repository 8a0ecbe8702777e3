"""Scored groups as tables for people: what each response earned, from what, and what each thought did to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from opera_client.cli.journal import Record
from opera_client.wire import GroupResult, SegmentResult, TrajectoryResult

REFLECTIVE = "↺"
LEGEND = (
    "perplexity: how surprising the reference still is after the whole response (lower is better). "
    "gains: what each thought took away from that surprise (+) or added to it (-), in nats per reference token; "
    f"{REFLECTIVE} marks a reflection."
)


def show_record(record: Record) -> None:
    """Print one record of `score` on the terminal."""
    group = GroupResult.model_validate(record)
    Console().print(group_table(group, title=f"group {group.group_id}"))


def group_table(
    group: GroupResult, *, title: str = "", more: Mapping[str, Sequence[Text | str]] | None = None
) -> Table:
    """Return one row a trajectory: id, reward, components, perplexity, gains, remarks.

    Args:
        group: the scored group.
        title: printed above.
        more: further columns by heading, one cell a trajectory.
    """
    table = Table(title=Text(title), title_justify="left", title_style="bold", expand=False)
    names = component_names(group)
    table.add_column("id")
    table.add_column("reward", justify="right")
    for name in names:
        table.add_column(name, justify="right", style="dim")
    table.add_column("perplexity", justify="right")
    table.add_column("gains", overflow="fold")
    for heading in more or {}:
        table.add_column(heading, overflow="fold")
    remarks = any(t.flags or t.error for t in group.trajectories)
    if remarks:
        table.add_column("remarks", overflow="fold")
    for place, trajectory in enumerate(group.trajectories):
        cells: list[Text | str] = [Text(trajectory.id), _number(trajectory.reward, "+.3f", bold=True)]
        cells += [_number((trajectory.components or {}).get(name), "+.3f") for name in names]
        cells += [_number(trajectory.perplexity, ".2f"), gains(trajectory.segments)]
        cells += [column[place] for column in (more or {}).values()]
        table.add_row(*cells, *([_remark(trajectory)] if remarks else []))
    return table


def segment_table(trajectory: TrajectoryResult, initial: float | None, *, title: str = "") -> Table:
    """Return one row a segment of a trajectory: its text, and what it did to the reference.

    `initial` is the mean log-prob of the reference before any thought.
    """
    table = Table(title=Text(title), title_justify="left", title_style="bold", expand=False)
    table.add_column("", justify="right", style="dim")
    table.add_column("thought", overflow="fold", max_width=68)
    table.add_column("log-prob", justify="right")
    table.add_column("gain", justify="right")
    table.add_column("credited")
    table.add_row("", Text("(before any thought)", style="dim"), _number(initial, ".3f"), "", "")
    for segment in trajectory.segments or ():
        text = Text(f"{REFLECTIVE} " if segment.reflective else "", style="magenta")
        text.append(segment.text.strip(), style="default")
        table.add_row(
            str(segment.index + 1), text, _number(segment.mean_logprob, ".3f"), _gain(segment),
            Text("yes", style="magenta") if segment.credited else "",
        )  # fmt: skip
    return table


def component_names(group: GroupResult) -> list[str]:
    """Return the component names of a group's scored trajectories, in the service's order."""
    return list(dict.fromkeys(name for t in group.trajectories for name in t.components or {}))


def gains(segments: Sequence[SegmentResult] | None) -> Text:
    """Return the gains of a trajectory in one line."""
    line = Text()
    for segment in segments or ():
        if line:
            line.append("  ")
        if segment.reflective:
            line.append(REFLECTIVE, style="magenta")
        line.append_text(_gain(segment))
    return line


def _gain(segment: SegmentResult) -> Text:
    colour = "green" if segment.gain > 0.005 else "red" if segment.gain < -0.005 else "dim"
    return Text(f"{segment.gain:+.2f}", style=colour)


def _number(value: float | None, form: str, *, bold: bool = False) -> Text:
    if value is None:
        return Text("-", style="dim")
    return Text(format(value, form), style="bold" if bold else "")


def _remark(trajectory: TrajectoryResult) -> Text:
    if trajectory.error:
        return Text(f"{trajectory.error.code}: {trajectory.error.message}", style="red")
    return Text(", ".join(trajectory.flags), style="yellow")
