"""The report as one HTML file that needs no network. Knows the report; reads no other file of a run."""

from __future__ import annotations

import html
from collections.abc import Iterator
from importlib.resources import files

import yaml

from opera_client.plot import drawn
from opera_trainer.report import tables
from opera_trainer.report.curves import charts
from opera_trainer.report.gathered import Report
from opera_trainer.report.responses import groups

CURVES = "Thin: every step. Thick: the mean of the last nine. Diamonds: validation tasks."
JUDGES = (
    "Sampled answers against second references, which neither the reward nor any training has seen: chrF and"
    " ROUGE-L (overlap), similarity of meaning by a sentence encoder; and what is rewarded, beside them. Changes"
    " over the same tasks, 95 % bootstrap intervals; at equal length, what length alone is worth is taken off."
)
LEGEND = (
    "A line and a column a stage: how likely its thoughts make the reference, and what it wrote. A block of a"
    " strip is a thought, as wide as it is long: green where the reference became likelier. ↺ is a reflection,"
    " underlined one that the reward credits. These are the first tasks of the files, each model's first sample."
)


def page(report: Report) -> str:
    css = drawn.style() + files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{drawn.POLICY}">'
        f"<title>{html.escape(report.name)}: opera-reward train</title><style>{css}</style></head>"
        f"<body><main>{''.join(_parts(report))}</main><script>{drawn.script()}</script></body></html>\n"
    )


def _parts(report: Report) -> Iterator[str]:
    minutes = sum(report.seconds.values()) / 60
    yield f"<h1>{html.escape(report.name)}</h1>"
    yield (
        f'<p class="soft">model {html.escape(report.model)} · tasks {html.escape(report.source)}'
        f" · seed {report.seed} · {minutes:.1f} minutes in all stages</p>"
    )
    yield f'<p class="lead">{_lead(report)}</p>'
    yield from _alarms(report)
    goals = tables.goals_table(report) if report.source == "world" else ""
    if goals:
        yield f'<h2>Goals of the project for this world</h2><div class="card">{goals}</div>'
    yield from _judged(report)
    yield from _measured(report)
    yield from _fitness(report)
    yield from _curves(report)
    yield from _shown(report)
    yield from _cold_start(report)
    yield from _samples(report)
    yield from _ablation(report)
    yield "<h2>What was not run</h2><ul>"
    yield "".join(f"<li>{_code(line)}</li>" for line in report.not_run) + "</ul>"
    yield f'<h2>Data</h2><div class="card">{tables.data(report)}</div>'
    yield from _made_with(report)


def _lead(report: Report) -> str:
    """Say in one sentence what the run did to held-out answers."""
    rows = [
        (one.stage, one.metrics["standard"]["accuracy_sampled"])
        for one in report.evaluations
        if "accuracy_sampled" in one.metrics.get("standard", {})
    ]
    if not rows and report.judged is not None:
        one = report.judged
        return f"{html.escape(one.words)} <small>({html.escape(one.start)} → {html.escape(one.end)})</small>"
    if not rows:
        return "No held-out task has an exact check, so the tables show prices and shapes, not accuracy."
    steps = " → ".join(f"<b>{100 * one.value:.1f} %</b> ({html.escape(stage)})" for stage, one in rows)
    return f"Right answers to held-out tasks at temperature 1: {steps}. No reward saw whether an answer was right."


def _alarms(report: Report) -> Iterator[str]:
    if report.alarms:
        rings = "".join(
            f"<li><b>{html.escape(name)}</b>: {html.escape(said)}</li>" for name, said in report.alarms.items()
        )
        yield f'<div class="card"><b class="bad">Alarms at the end of GRPO</b><ul>{rings}</ul></div>'


def _judged(report: Report) -> Iterator[str]:
    if report.judged is None:
        return
    one = report.judged
    yield "<h2>Judges that the reward never sees</h2>"
    yield (
        f"<p><b>{html.escape(one.words)}</b></p><p class='soft'>{JUDGES} {one.tasks} held-out tasks have a second"
        " reference.</p>"
    )
    yield f'<div class="card">{tables.judges(one)}</div>'
    if one.preferences:
        yield f'<div class="card">{tables.preferences(one)}</div>'


def _fitness(report: Report) -> Iterator[str]:
    if report.fitness is not None:
        yield "<h2>Before GRPO: is this fit to train on?</h2>"
        yield f'<div class="card">{tables.fitness(report.fitness)}</div>'


def _shown(report: Report) -> Iterator[str]:
    if not report.shown:
        return
    yield "<h2>What was sampled while it trained</h2>"
    for one in report.shown:
        rows = [
            ["–" if reward is None else f"{reward:.2f}", f"<span class='said'>{html.escape(text)}</span>"]
            for text, reward in zip(one.responses, [*one.rewards, *[None] * len(one.responses)], strict=False)
        ]
        yield (
            f"<details><summary>step {one.step}: {html.escape(one.prompt[:160])}</summary>"
            f"{tables.table(['reward', 'response'], rows)}</details>"
        )


def _measured(report: Report) -> Iterator[str]:
    yield "<h2>Before and after</h2>"
    yield (
        '<p class="soft">95 % intervals: bootstrap over held-out tasks, Wilson for greedy. Rewards and prices'
        " are the run's scorer's, never the trained model's own.</p>"
    )
    for tier in dict.fromkeys(tier for one in report.evaluations for tier in one.metrics):
        yield f"<h3>Tier: {html.escape(tier)}</h3><div class='card'>{tables.before_after(report, tier)}</div>"
    if report.gains:
        yield f"<h3>Change on the same tasks</h3><div class='card'>{tables.gains(report)}</div>"


def _curves(report: Report) -> Iterator[str]:
    names = {"grpo": "GRPO", "references": "SFT on references", "sft": "SFT"}
    for stage in names:
        found = charts(stage, report.logs.get(stage, []))
        if found:
            yield f"<h2>{names[stage]}, step by step</h2><p class='soft'>{CURVES}</p>"
            yield drawn.part("curves", {"about": CURVES, "charts": found})


def _cold_start(report: Report) -> Iterator[str]:
    if report.synthesis is None:
        return
    one, cost = report.synthesis, report.throughput
    yield "<h2>Cold start</h2>"
    yield (
        f"<p>{one.tasks} tasks gave {one.kept} traces to learn from; a step was chosen among its candidates by"
        f" <b>{html.escape(one.criterion)}</b>.{_verified(report)}</p>"
    )
    yield f'<div class="card">{tables.dropped(report)}</div>'
    criteria = tables.criteria(report)
    if criteria and report.comparison is not None:
        yield f"<h3>The criteria on the same {report.comparison.tasks} tasks, through the same filters</h3>"
        yield f'<div class="card">{criteria}</div>'
    if cost is not None and cost.kept:
        yield (
            f'<p class="soft">{cost.traces} traces in {cost.seconds:.0f} s: {cost.traces_per_second:.1f} a second,'
            f" {cost.kept_per_hour:,.0f} kept an hour; 20,000 kept ones would take"
            f" {cost.hours_for_20000:.1f} hours here, with this model.</p>"
        )


def _verified(report: Report) -> str:
    """Say what exact checks did to the traces, where the tasks have any."""
    if report.synthesis is None or report.synthesis.right is None:
        return " These tasks have no exact check."
    filters = (report.config.get("synthesis") or {}).get("filters") or {}
    did = "it dropped traces, too" if filters.get("check") else "no trace was dropped for it"
    return f" Whether a trace is right was checked exactly, as a statistic: {did}."


def _samples(report: Report) -> Iterator[str]:
    if not report.samples:
        return
    yield f'<h2>Responses, thought by thought</h2><p class="soft">{LEGEND}</p>'
    yield drawn.part("groups", groups(report.samples))


def _ablation(report: Report) -> Iterator[str]:
    yield "<h2>Ablation</h2>"
    if report.ablation is None:
        yield f"<p>Not run: <code>opera-reward train ablate {html.escape(report.name)}</code></p>"
        return
    yield '<p class="soft">Means over seeds, ± the 95 % t interval; held-out tasks, start → end of GRPO.</p>'
    judged = any(one.changes for one in report.ablation.outcomes)
    yield f'<div class="card">{tables.judged_ablation(report) if judged else tables.ablation(report)}</div>'


def _made_with(report: Report) -> Iterator[str]:
    yield "<h2>How it was made</h2>"
    times = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in report.seconds.items())
    versions = ", ".join(f"{name} {found}" for name, found in report.versions.items())
    yield f"<p>{html.escape(times)}.</p><p>{html.escape(versions)}.</p>"
    text = yaml.safe_dump(report.config, sort_keys=False, allow_unicode=True)
    yield f"<details><summary>Configuration</summary><pre>{html.escape(text)}</pre></details>"


def _code(line: str) -> str:
    parts = html.escape(line).split("`")
    return "".join(f"<code>{part}</code>" if at % 2 else part for at, part in enumerate(parts))
