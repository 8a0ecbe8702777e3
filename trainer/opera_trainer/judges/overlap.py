"""Overlap of an answer with a reference: chrF and ROUGE-L, from 0 to 1. Knows texts only.

chrF: Popović 2015 (sacrebleu, its defaults: 6-grams of characters, β = 2). ROUGE-L: Lin 2004, F1 of the longest
common subsequence of words; a Chinese or Japanese character is a word.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|[^\W_]+")


class _Words:
    """Words as rouge-score's own tokenizer makes them, but of any language."""

    def tokenize(self, text: str) -> list[str]:
        return _WORD.findall(text.casefold())


def chrf(answer: str, reference: str) -> float:
    """Return chrF; raises ModuleNotFoundError without sacrebleu."""
    return float(_chrf().sentence_score(answer, [reference]).score) / 100


def rouge_l(answer: str, reference: str) -> float:
    """Return ROUGE-L's F1; raises ModuleNotFoundError without rouge-score."""
    return float(_rouge().score(reference, answer)["rougeL"].fmeasure)


@cache
def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


@cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], tokenizer=_Words())
