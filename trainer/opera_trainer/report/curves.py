"""Training curves as plotly figures. Knows log entries, no files and no page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

from opera_trainer.artefacts import LogEntry

COLOURS = ("#2b7fd4", "#e0670c", "#10a37a", "#cc6fa8", "#5cb8ee", "#e6a012", "#808b99", "#a0522d")
"""After Okabe and Ito, told apart by colour-blind eyes, on white and on black."""
INK, LINE = "#808b99", "rgba(128,139,153,.25)"
WINDOW = 9
"""Steps of the running mean."""

GRPO: tuple[tuple[str, dict[str, str]], ...] = (
    ("Reward", {"reward": "reward"}),
    ("Right answers, which no reward sees", {"watched/right": "right"}),
    ("Overlap with second references, which no reward sees", {"watched/chrf": "chrF"}),
    (
        "Components of the reward",
        {
            "opera/relative": "relative",
            "opera/answer": "answer",
            "opera/precision": "precision",
            "opera/relevance": "relevance",
            "opera/thought": "thought",
            "opera/consistency": "consistency",
            "opera/reflection": "reflection",
            "opera/value": "value",
            "opera/level": "level (not paid)",
        },
    ),
    ("Shape of thoughts", {"watched/empty_thought": "empty thoughts"}),
    ("Length, tokens", {"completions/mean_length": "mean"}),
    ("Entropy and gradient", {"entropy": "entropy", "grad_norm": "gradient norm"}),
)
SFT = (("Loss", {"loss": "loss"}), ("Tokens predicted right", {"mean_token_accuracy": "accuracy"}))


def figures(stage: str, log: Sequence[LogEntry]) -> list[tuple[str, Any]]:
    """Return (title, figure) of every chart that the log has numbers for."""
    found = []
    for title, names in GRPO if stage == "grpo" else SFT:
        figure = _figure(log, names)
        if figure is not None:
            found.append((title, figure))
    return found


def smooth(values: Sequence[float], window: int = WINDOW) -> list[float]:
    """Return the running mean over at most `window` values, up to each."""
    return [fmean(values[max(0, at - window + 1) : at + 1]) for at in range(len(values))]


def _figure(log: Sequence[LogEntry], names: dict[str, str]) -> Any | None:
    from plotly import graph_objects as go

    figure = go.Figure()
    for colour, (metric, label) in zip(COLOURS, names.items(), strict=False):
        steps, values = _series(log, "train", metric)
        if steps:
            figure.add_scatter(
                x=steps, y=values, mode="lines", line={"color": colour, "width": 1}, opacity=0.3, showlegend=False,
                hoverinfo="skip",
            )  # fmt: skip
            figure.add_scatter(
                x=steps, y=smooth(values), mode="lines", name=label, line={"color": colour, "width": 2.5}
            )
        steps, values = _series(log, "validation", metric)
        if steps:
            figure.add_scatter(
                x=steps, y=values, mode="markers", name=f"{label}, validation", showlegend=False,
                marker={"color": colour, "size": 10, "symbol": "diamond", "line": {"color": INK, "width": 1}},
            )  # fmt: skip
    if not figure.data:
        return None
    axis = {"gridcolor": LINE, "zerolinecolor": LINE, "linecolor": LINE, "automargin": True}
    figure.update_layout(
        height=280, margin={"l": 50, "r": 12, "t": 8, "b": 40}, paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)", font={"color": INK, "size": 12}, hovermode="x unified",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        xaxis={**axis, "title": "optimizer step"}, yaxis=axis, template="none",
        hoverlabel={"bgcolor": "#fff", "font": {"color": "#1c2430"}},
    )  # fmt: skip
    return figure


def _series(log: Iterable[LogEntry], split: str, metric: str) -> tuple[list[int], list[float]]:
    pairs = [(one.step, one.metrics[metric]) for one in log if one.split == split and metric in one.metrics]
    return [step for step, _ in pairs], [value for _, value in pairs]
