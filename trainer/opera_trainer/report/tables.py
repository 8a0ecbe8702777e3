"""The report's tables as HTML: before and after, goals, cold start, data, ablation. Knows no layout."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from opera_trainer.ablation.table import Outcome, change, spread, training_reward
from opera_trainer.artefacts import Estimate
from opera_trainer.judges.findings import Judged
from opera_trainer.judges.verdict import way
from opera_trainer.report.gathered import Fitness, Report
from opera_trainer.report.goals import goals

NAMES = {
    "accuracy_sampled": "right answers, temperature 1",
    "accuracy_greedy": "right answers, greedy",
    "reference_perplexity": "perplexity of the reference after the thought",
    "tokens": "tokens a response",
    "reflective": "reflective paragraphs",
    "empty_thought": "empty thoughts",
    "reward": "reward",
    "reward_auc": "AUC: a right response is paid more than a wrong one to the same question",
    "price_auc": "AUC: the reference is likelier after thoughts of right responses",
}
PERCENT = ("accuracy", "pass_at", "reflective", "empty_thought", "flag/")


def before_after(report: Report, tier: str) -> str:
    """Return one row a metric, one column a stage."""
    stages = [one.stage for one in report.evaluations]
    metrics = dict.fromkeys(name for one in report.evaluations for name in one.metrics.get(tier, {}))
    rows = [
        [_named(name), *(_estimate(one.metrics.get(tier, {}).get(name), name) for one in report.evaluations)]
        for name in metrics
    ]
    return table(["", *stages], rows)


def gains(report: Report) -> str:
    """Return what every stage changed on the same tasks."""
    rows = [
        [
            html.escape(f"{one.start} → {one.end}"), one.tier, _named(one.metric),
            f"<b>{100 * one.change.value:+.1f}</b>"
            f" <small>{100 * one.change.low:+.1f} to {100 * one.change.high:+.1f}</small>",
        ]
        for one in report.gains
    ]  # fmt: skip
    return table(["", "tier", "", "change, points"], rows)


def goals_table(report: Report) -> str:
    """Return the project's goals for its own world and whether this run reached them."""
    rows = [
        [
            html.escape(goal.what),
            html.escape(goal.measured),
            {True: '<b class="good">reached</b>', False: '<b class="bad">missed</b>', None: "not measured"}[
                goal.held
            ],
        ]
        for goal in goals(report)
    ]
    return table(["goal", "this run", ""], rows)


JUDGE_NAMES = {
    "rewarded": "what is rewarded (not a judge)",
    "chrf": "chrF, second reference",
    "rouge_l": "ROUGE-L, second reference",
    "similarity": "similarity of meaning, second reference",
    "other_scorer": "log-prob of the second reference by another model, nats a token",
}
WAYS = {"up": '<b class="good">rises</b>', "down": '<b class="bad">falls</b>', "flat": "chance", None: "–"}


def judges(judged: Judged) -> str:
    """Return one row a pair of models and judge."""
    rows = [
        [
            html.escape(f"{one.start} → {one.end}"), html.escape(JUDGE_NAMES.get(one.metric, one.metric)),
            _change(one.plain), _change(one.equal_length), WAYS[way(one.equal_length or one.plain)],
            str(one.plain.count),
        ]
        for one in judged.changes
    ]  # fmt: skip
    return table(["", "", "change", "at equal length", "", "tasks"], rows)


def preferences(judged: Judged) -> str:
    """Return what judges of pairs prefer."""
    rows = [
        [
            html.escape(one.judge), html.escape(f"{one.start} → {one.end}"), _estimate(one.share, "accuracy"),
            "–" if one.consistent is None else f"{one.consistent:.0%}", str(one.share.count),
        ]
        for one in judged.preferences
    ]  # fmt: skip
    return table(["judge", "", "the later answer wins", "agrees with itself or others", "pairs"], rows)


def fitness(found: Fitness) -> str:
    """Return what was measured before GRPO."""
    rows = [
        [
            html.escape(one.name), "–" if one.value is None else f"{one.value:.2f}",
            html.escape(one.level if one.level != "ok" else ""), html.escape(one.advice),
        ]
        for one in found.findings
    ]  # fmt: skip
    return table(["", "value", "", ""], rows)


def _change(one: Estimate | None) -> str:
    if one is None:
        return "–"
    return f"<b>{one.value:+.3f}</b> <small>{one.low:+.3f} to {one.high:+.3f}</small>"


def criteria(report: Report) -> str:
    """Return the cold start's criteria beside plain sampling, on the same tasks."""
    comparison = report.comparison
    if comparison is None or not comparison.tasks:
        return ""
    names = {
        "step": "the step's own perplexity",
        "reference": "the reference's perplexity",
        "paper": "whole sequence",
    }
    rows = []
    for one in comparison.criteria:
        mark = " (this run's)" if report.synthesis and one.criterion == report.synthesis.criterion else ""
        rows.append([
            names[one.criterion] + mark, f"{one.kept} of {one.tasks}", _share(one.right), _share(one.sound),
            _share(one.right_before_filters), f"{one.reflective:.0%}", f"{one.reflections:.2f}", f"{one.gain:.2f}",
            f"{one.sampled_tokens / max(1, one.tasks):.0f}",
        ])  # fmt: skip
    if comparison.plain is not None:
        plain = comparison.plain
        label = f"plain samples, temperature {plain.temperature:g}"
        rows.append([label, f"{plain.responses} samples", "–", "–", _share(plain.right), "–", "–", "–", "–"])
    return table(
        ["chosen by", "kept", "kept: right", "kept: right, thought too", "before filters: right",
         "with reflection", "reflections", "gain, nats", "tokens a task"], rows,
    )  # fmt: skip


def dropped(report: Report) -> str:
    """Return what the filters took out of the run's own traces."""
    if report.synthesis is None:
        return ""
    why = {
        "empty": "no thought or no answer",
        "answer_cut": "answer cut off",
        "gain": "the reference gained too little",
        "explained": "the thought explains too little of the reference",
        "logprob": "the reference stayed unlikely",
        "idle": "too many idle paragraphs",
        "repetition": "repeats itself",
        "check": "wrong by the exact check",
    }
    rows = [[why.get(name, name), str(count)] for name, count in sorted(report.synthesis.dropped.items())]
    return table(["dropped because", "traces"], [["kept", f"<b>{report.synthesis.kept}</b>"], *rows])


def data(report: Report) -> str:
    """Return the counts of the data card."""
    rows = []
    for name, file in report.data.files.items():
        lengths = [
            f"{one.mean:.0f} ({one.most})" if one else "–" for one in (file.prompt_tokens, file.reference_tokens)
        ]
        tiers = ", ".join(file.tiers) or "–"
        rows.append([html.escape(name), str(file.count), html.escape(tiers), str(file.checked), *lengths])
    return table(
        ["file", "tasks", "tier", "with exact check", "prompt tokens, mean (most)", "reference tokens"], rows
    )


def ablation(report: Report) -> str:
    """Return one row a cell, means over seeds with 95 % t intervals."""
    if report.ablation is None:
        return ""
    cells: dict[str, list[Outcome]] = {}
    for one in report.ablation.outcomes:
        cells.setdefault(one.cell, []).append(one)
    rows = [_cell(name, report.notes.get(name, ""), ones) for name, ones in cells.items()]
    return table(
        [
            "cell",
            "seeds",
            "temperature 1",
            "gain, points",
            "greedy",
            "harder, temperature 1",
            "training reward",
            "AUC",
        ],
        rows,
    )


def judged_ablation(report: Report) -> str:
    """Return one row a cell and seed: what it changed for the judges, on tasks without exact checks."""
    outcomes = report.ablation.outcomes if report.ablation else []
    names = list(dict.fromkeys(name for one in outcomes for name in one.changes))
    rows = [
        [
            f"<b>{html.escape(one.cell)}</b> <small>{html.escape(report.notes.get(one.cell, ''))}</small>",
            str(one.seed), *(change([one], name) for name in names), html.escape(one.verdict or "–"),
            training_reward([one]),
        ]
        for one in outcomes
    ]  # fmt: skip
    heads = [html.escape(JUDGE_NAMES.get(name, name)) for name in names]
    return table(["cell", "seed", *heads, "verdict", "training reward"], rows)


def _cell(name: str, note: str, ones: Sequence[Outcome]) -> list[str]:
    def pair(key: str) -> str:
        if any(key not in one.before or key not in one.after for one in ones):
            return "–"
        return f"{spread([one.before[key] for one in ones])} → <b>{spread([one.after[key] for one in ones])}</b>"

    key = "standard/accuracy_sampled"
    changed = [100 * (one.after[key] - one.before[key]) for one in ones if key in one.after and key in one.before]
    gain = spread(changed) if changed else None
    aucs = [one.after["standard/reward_auc"] for one in ones if "standard/reward_auc" in one.after]
    return [
        f"<b>{html.escape(name)}</b> <small>{html.escape(note)}</small>",
        " ".join(str(one.seed) for one in ones),
        pair(key),
        "–" if gain is None else f"{gain.mean:+.0f}" + ("" if gain.half is None else f" ± {gain.half:.0f}"),
        pair("standard/accuracy_greedy"),
        pair("harder/accuracy_sampled"),
        training_reward(ones),
        str(spread(aucs)) if aucs else "–",
    ]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; cells are HTML already."""
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    heads = "".join(f"<th>{cell}</th>" for cell in head)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def _named(metric: str) -> str:
    if metric.startswith("pass_at_"):
        return f"right in {metric.removeprefix('pass_at_')} samples (pass@{metric.removeprefix('pass_at_')})"
    kind, _, name = metric.partition("/")
    return html.escape(NAMES.get(metric, f"{kind}: {name}" if name else metric))


def _estimate(one: Estimate | None, metric: str) -> str:
    if one is None:
        return "–"
    if metric.startswith(PERCENT):
        return f"<b>{100 * one.value:.1f} %</b> <small>{100 * one.low:.1f} to {100 * one.high:.1f}</small>"
    digits = 1 if metric == "tokens" else 3
    return f"<b>{one.value:.{digits}f}</b> <small>{one.low:.{digits}f} to {one.high:.{digits}f}</small>"


def _share(one: Estimate | None) -> str:
    return "–" if one is None else _estimate(one, "accuracy")
