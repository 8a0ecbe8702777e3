"""A response as a strip: one cell a thought, coloured by how surprising the reference still is. HTML only."""

from __future__ import annotations

import html
from math import exp

from opera_trainer.artefacts import Rollout

DARKEST = 1.2
"""Nats a token at which a cell is fully red: a perplexity of 3.3."""


def strip(rollout: Rollout, stage: str) -> str:
    """Return the card of one response."""
    verdict = {True: '<b class="good">✓ right</b>', False: '<b class="bad">✗ wrong</b>', None: ""}[rollout.right]
    reward = "" if rollout.reward is None else f"reward {rollout.reward:+.3f}"
    flags = "".join(f' <span class="flag">{html.escape(flag)}</span>' for flag in rollout.flags)
    thought, closed, answer = rollout.response.partition("</think>")
    thought = thought.removeprefix("<think>").strip()
    cells = "".join(_cells(rollout))
    rows = "".join(_rows(rollout)) or f"<p class='soft'>{html.escape(thought) or 'no thought'}</p>"
    ending = html.escape(answer.strip()) if closed else "<i>the thought never ended</i>"
    return (
        f'<article class="trajectory"><h4>{html.escape(stage)} <span class="soft">{reward}</span>{verdict}</h4>'
        f'<div class="strip">{cells}</div>{rows}<p class="answer">{ending}{flags}</p></article>'
    )


def colour(logprob: float) -> str:
    """Return the colour of a mean log-prob in nats a token: green for certain, red for surprised."""
    share = min(1.0, max(0.0, -logprob / DARKEST))
    return f"hsl({145 - 135 * share:.0f} 58% {44 + 6 * share:.0f}%)"


def _cells(rollout: Rollout) -> list[str]:
    found = []
    if rollout.initial_mean_logprob is not None:
        found.append(_cell(rollout.initial_mean_logprob, "start", "before any thought"))
    for segment in rollout.segments or ():
        mark = ("↺" if segment.reflective else "") + ("★" if segment.credited else "") or str(segment.index + 1)
        found.append(_cell(segment.mean_logprob, mark, segment.text.strip()))
    return found


def _cell(logprob: float, mark: str, title: str) -> str:
    return (
        f'<span style="background:{colour(logprob)}" title="{html.escape(title)}">'
        f"{_perplexity(logprob)}<small>{mark}</small></span>"
    )


def _rows(rollout: Rollout) -> list[str]:
    return [
        f'<p class="thought" style="border-color:{colour(segment.mean_logprob)}">'
        f"{html.escape(segment.text.strip())}"
        f' <span class="{"good" if segment.gain > 0 else "bad"}">{segment.gain:+.2f}</span></p>'
        for segment in rollout.segments or ()
    ]


def _perplexity(logprob: float) -> str:
    value = exp(min(-logprob, 50.0))
    return f"{value:.2f}" if value < 100 else f"{value:.0e}"
