"""The demo's report on the terminal, for somebody who has read nothing yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from opera_cli.table import REFLECTIVE, component_names, group_table, remarks, segment_table
from opera_client.wire import GroupResult, RewardResult, TrajectoryResult
from opera_demo.rollouts import Rollout

INTRODUCTION = (
    "A small language model thinks about word problems, in several paragraphs, and answers. OPERA rewards a "
    "response by how much less surprising it makes the known right answer (the reference) to the model itself.\n"
)
COLUMNS = {
    "reward": "what a trainer gets: this response's value against the others' and an empty response's",
    "answer": "surprise that the answer takes away from the reference, in nats per token",
    "precision": "the same the other way round: what the reference makes of the answer",
    "relevance": "how much likelier the question makes the answer",
    "thought": "surprise that the thinking takes away from the reference",
    "value": "the answer, and capped shares of precision and thought",
    "ppl": "perplexity of the reference after the thinking: 1 is certain, higher is more surprised",
    "said": "what it answered; ✓ exactly right, ✗ wrong: evaluation only, no reward sees it",
    "gains": f"thought by thought: surprise taken away (+) or added (-); {REFLECTIVE} marks a second thought",
}


def facts(lines: Mapping[str, str], *, indent: int = 0) -> Padding:
    """Return labels and what stands behind them, with a hanging indent."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold", min_width=11, no_wrap=True)
    grid.add_column()
    for label, text in lines.items():
        grid.add_row(label, text)
    return Padding(grid, (0, 0, 0, indent))


def explanation(result: RewardResult) -> Padding:
    """Return one line per column of the tables."""
    present = {"reward", "ppl", "gains", "said", *component_names(result.groups[0])}
    return facts({name: meaning for name, meaning in COLUMNS.items() if name in present}, indent=2)


def cost(result: RewardResult, seconds: float) -> str:
    """Return what the request took, in one sentence."""
    usage = result.usage
    return (
        f"POST /reward answered in {seconds:.1f} s: {usage.scored_tokens:,} log-probabilities from "
        f"{usage.tokens_computed:,} tokens computed; one context at a time would be {usage.tokens_naive:,}, "
        f"{usage.tokens_naive / usage.tokens_computed:.1f} times as many"
    )


def group_report(rollout: Rollout, result: GroupResult) -> Group:
    """Return one question with its table."""
    answers = [
        Text.assemble(_answer(t.response or ""), " ", ("✓", "green") if right else ("✗", "red"))
        for t, right in zip(rollout.group.trajectories, _rightness(rollout), strict=True)
    ]
    question = facts({result.group_id.capitalize(): rollout.task.question, "Reference": rollout.task.reference})
    table = group_table(result, more={"said": answers})
    return Group(question, table, *remarks(result))


def report(console: Console, rollouts: Sequence[Rollout], result: RewardResult) -> None:
    """Print how to read the tables, every question, one response thought by thought, and the verdict."""
    console.print("\n[bold]How to read the tables[/]")
    console.print(explanation(result))
    for rollout, group in zip(rollouts, result.groups, strict=True):
        console.print()
        console.print(group_report(rollout, group))
    console.print(closer_look(rollouts, result))
    console.print(f"\n{verdict(rollouts, result)}\n")


def closer_look(rollouts: Sequence[Rollout], result: RewardResult) -> Group:
    """Return the response whose thoughts moved the reference most, segment by segment."""
    found = [
        (rollout, group, trajectory)
        for rollout, group in zip(rollouts, result.groups, strict=True)
        for trajectory in group.trajectories
        if trajectory.status == "ok"
    ]
    rollout, group, trajectory = max(found, key=lambda one: _swing(one[2]))
    place = group.trajectories.index(trajectory)
    title = f"One response thought by thought: {group.group_id}, response {trajectory.id}"
    answer = Text.assemble(
        ("Answer: ", "bold"), (rollout.group.trajectories[place].response or "").rpartition("</think>")[2].strip()
    )
    return Group(
        "",
        segment_table(trajectory, group.initial_mean_logprob, title=title),
        Text(
            "log-prob: mean log-probability of the reference's tokens after this thought; gain: the change.",
            style="dim",
        ),
        answer,
    )


def verdict(rollouts: Sequence[Rollout], result: RewardResult) -> str:
    """Return how rewards and right answers go together, in one line."""
    paid: dict[bool, list[float]] = {True: [], False: []}
    for rollout, group in zip(rollouts, result.groups, strict=True):
        for right, trajectory in zip(_rightness(rollout), group.trajectories, strict=True):
            if trajectory.reward is not None:
                paid[right].append(trajectory.reward)
    parts = [
        f"{len(rewards)} {'right' if right else 'wrong'} answers earned {fmean(rewards):+.3f} on average"
        for right, rewards in paid.items()
        if rewards
    ]
    return "Evaluation only: " + ", ".join(parts) + "."


def console() -> Console:
    """Return stdout, wide enough for the tables where it is not a terminal."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=max(found.width, 110))


def _rightness(rollout: Rollout) -> list[bool]:
    return [rollout.is_right(place) for place in range(len(rollout.group.trajectories))]


def _swing(trajectory: TrajectoryResult) -> float:
    gains = [segment.gain for segment in trajectory.segments or ()]
    return max(gains) - min(gains) if gains else 0.0


def _answer(response: str) -> str:
    text = response.rpartition("</think>")[2].strip()
    return next((word for word in text.split() if word.isdigit()), "-") if text else "-"
