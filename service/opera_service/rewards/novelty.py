"""Which tokens of an answer are its own: no stretch of the prompt, and nothing it has said before.

A prompt repeated is always well explained by the prompt, and a sentence said twice by itself. Works on token ids.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from opera_service.scoring.tree import Ids

RUN = 4
"""Tokens in a row that make a stretch; shorter ones are the language's."""


def own_tokens(answer: Ids, prompt: Ids) -> NDArray[np.bool_]:
    """Return, per token of `answer`, whether it lies in no run that the prompt or the answer had before."""
    known = set(_runs(prompt))
    own = np.ones(len(answer), dtype=np.bool_)
    for at, run in enumerate(_runs(answer)):
        if run in known:
            own[at : at + RUN] = False
        known.add(run)
    return own


def _runs(ids: Ids) -> list[tuple[int, ...]]:
    listed = ids.tolist()
    return [tuple(listed[at : at + RUN]) for at in range(len(listed) - RUN + 1)]
