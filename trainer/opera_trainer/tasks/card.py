"""The data card: what the tasks are, how many, how long, and what was left out. Knows counts, no files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from opera_trainer.artefacts import Row, Task


class Spread(Row):
    """Lengths in tokens."""

    least: int
    mean: float
    most: int


class FileCard(Row):
    """One file of tasks."""

    count: int
    tiers: dict[str, int]
    kinds: dict[str, int]
    checked: int
    """Tasks with an exact check."""
    second_references: int
    """Tasks with a held-out second reference."""
    prompt_tokens: Spread | None
    """None for a file without tasks."""
    reference_tokens: Spread | None


class DataCard(Row):
    """All files, and what became of every row of the source."""

    source: str
    seed: int
    model: str
    """Whose tokens are counted."""
    read: int
    """Rows of the source; for the generated world, tasks drawn."""
    dropped: dict[str, int]
    """Why → rows."""
    unused: int
    """Good tasks beyond the counts that were asked for."""
    shared: int
    """Ids that are in two files: always 0, counted all the same."""
    files: dict[str, FileCard]


def file_card(tasks: Sequence[Task], lengths: Mapping[str, tuple[int, int]]) -> FileCard:
    """Describe one file; `lengths` are tokens of prompt and reference by id."""
    return FileCard(
        count=len(tasks),
        tiers=dict(Counter(task.tier for task in tasks)),
        kinds=dict(Counter(task.kind for task in tasks)),
        checked=sum(task.check is not None for task in tasks),
        second_references=sum(task.second_reference is not None for task in tasks),
        prompt_tokens=_spread([lengths[task.id][0] for task in tasks]),
        reference_tokens=_spread([lengths[task.id][1] for task in tasks]),
    )


def shared_ids(files: Mapping[str, Sequence[Task]]) -> int:
    """Return how many ids are in more than one place."""
    seen = Counter(task.id for tasks in files.values() for task in tasks)
    return sum(count > 1 for count in seen.values())


def markdown(card: DataCard) -> str:
    """Return the card for people."""
    lines = [
        "# Tasks",
        "",
        f"Source `{card.source}`, seed {card.seed}, lengths in tokens of `{card.model}`. {card.read} rows read,"
        f" {card.unused} good ones not needed, {card.shared} ids in two files.",
        "",
        "| file | tasks | tiers | kinds | with exact check | with second reference |"
        " prompt tokens, mean (most) | reference tokens |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {one.count} | {_counts(one.tiers)} | {_counts(one.kinds)} | {one.checked} |"
        f" {one.second_references} | {_shown(one.prompt_tokens)} | {_shown(one.reference_tokens)} |"
        for name, one in card.files.items()
    ]
    lines += ["", f"Left out: {_counts(card.dropped) or 'none'}.", ""]
    lines.append("Splits are by hash of the canonical task: 80 % train, 5 % validation, 15 % test. Exact checks")
    lines.append("and second references are for evaluation only; no reward sees them.")
    return "\n".join(lines) + "\n"


def _spread(lengths: Sequence[int]) -> Spread | None:
    if not lengths:
        return None
    return Spread(least=min(lengths), mean=round(sum(lengths) / len(lengths), 1), most=max(lengths))


def _shown(spread: Spread | None) -> str:
    return "–" if spread is None else f"{spread.mean:.0f} ({spread.most})"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
