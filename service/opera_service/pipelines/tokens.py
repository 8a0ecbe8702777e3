"""Text or ids of a request as token ids, checked against the model; shared by the pipelines.

Every text is tokenised alone, without special tokens, and joined as ids: never context and target together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from opera_client.errors import ContextTooLong, EmptyContext, TokenOutOfVocabulary
from opera_client.wire import Message
from opera_service.engines.base import EngineInfo
from opera_service.scoring.tree import Ids, as_ids
from opera_service.trajectories.tokenizer import Tokenizer


def ids_of(
    tokenizer: Tokenizer,
    text: str | Sequence[Message] | None,
    ids: Sequence[int] | None,
    info: EngineInfo,
    *,
    field: str,
) -> Ids:
    """Return `ids` if given, else the tokens of `text` (a list of messages goes through the chat template).

    Raises `TokenOutOfVocabulary` with the field's path.
    """
    if ids is not None:
        return check_vocabulary(as_ids(ids), info, field=f"{field}_token_ids")
    if text is None or isinstance(text, str):
        return check_vocabulary(tokenizer.encode(text or ""), info, field=field)
    return check_vocabulary(tokenizer.chat([message.model_dump() for message in text]), info, field=field)


def check_vocabulary(ids: Ids, info: EngineInfo, *, field: str) -> Ids:
    """Return `ids`, or raise `TokenOutOfVocabulary` naming the first bad one."""
    bad = np.flatnonzero((ids < 0) | (ids >= info.vocab_size))
    if len(bad):
        raise TokenOutOfVocabulary(
            f"token id {ids[bad[0]]} at position {bad[0]} is not below the model's vocabulary size "
            f"{info.vocab_size}; send ids of this model's own tokenizer, or text",
            field=field,
        )
    return ids


def check_length(context: int, target: int, info: EngineInfo, *, field: str) -> None:
    """Raise unless a context and target of so many tokens fit the model."""
    if context == 0:
        raise EmptyContext("there is no token before the target to predict it from; give a context", field=field)
    if context + target > info.max_context:
        raise ContextTooLong(
            f"context ({context} tokens) and target ({target}) together exceed the model's {info.max_context}; "
            "shorten one of them",
            field=field,
        )
