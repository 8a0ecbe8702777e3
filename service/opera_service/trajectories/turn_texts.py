"""Whether the texts that came with a trajectory's ids say what the ids say: ids are scored, texts are shown."""

from __future__ import annotations

import numpy as np

from opera_client.wire import Trajectory
from opera_service.scoring.tree import Ids, as_ids
from opera_service.trajectories.tokenizer import Tokenizer
from opera_service.trajectories.turn_tokens import TurnTokens


def texts_differ(trajectory: Trajectory, tokens: TurnTokens, tokenizer: Tokenizer) -> bool:
    """Whether some text of a trajectory with turns is not what the ids beside it say; blanks do not count.

    Beside a mask, `response` is all of the ids, all up to the policy's last one, or the policy's own. A message's
    `content` is a part of its `token_ids`, which hold its thought and its calls, too.
    """
    if trajectory.turns is not None:
        return any(
            not any(_bare(turn.content) in said for said in _said(as_ids(turn.token_ids), tokenizer))
            for turn in trajectory.turns
            if turn.token_ids is not None
        )
    if trajectory.response is None:
        return False
    whole = as_ids(trajectory.response_token_ids or [])
    own = np.concatenate([tokens.ids[start:end] for start, end in tokens.turns])
    told = _bare(trajectory.response)
    return not any(told in _said(ids, tokenizer) for ids in (whole, tokens.ids, own))


def _said(ids: Ids, tokenizer: Tokenizer) -> tuple[str, str]:
    """Return what ids say, with special tokens and without."""
    return _bare(tokenizer.decode(ids)), _bare(tokenizer.decode(ids, skip_special=True))


def _bare(text: str) -> str:
    return "".join(text.split())
