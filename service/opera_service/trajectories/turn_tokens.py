"""All tokens of a trajectory of several turns, and which of them the policy wrote.

Messages, and ids with a mask, become one thing here. Knows no thoughts and no rewards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from opera_client.errors import EmptyResponse, InvalidRequest
from opera_client.wire import Trajectory, Turn
from opera_service.scoring.tree import Ids, as_ids
from opera_service.trajectories.field_tokenizer import FieldTokenizer, readable

MOST_ASSISTANT_TURNS = 256
"""Each is a context of its own for the model, and longer than the ones before it."""


@dataclass(frozen=True)
class TurnTokens:
    """What stands behind the prompt."""

    ids: Ids
    turns: tuple[tuple[int, int], ...]
    """First token and one past the last of each of the policy's turns, its end-of-turn token included; the first
    one begins at 0. What lies between them is its environment's; nothing follows the last one."""


def read_turns(
    trajectory: Trajectory, fields: FieldTokenizer, named: Callable[[str], str], prompt: Ids, *, chat: bool
) -> TurnTokens:
    """Return the tokens of a trajectory that has turns, behind those of `prompt`.

    `named` gives the paths of the trajectory's fields. `chat` says that the prompt came as messages: then the
    model's template writes what stands around contents. Otherwise they are joined as they are. What the
    environment said last, with no turn behind it, is left out.

    Raises `EmptyResponse` when the policy wrote nothing, `InvalidRequest` for turns or a mask that cannot be read.
    """
    if trajectory.turns is not None:
        field = named("turns")
        found = _of_messages(trajectory.turns, fields, field, prompt, chat=chat)
    else:
        field = named("response_mask")
        ids = fields.tokens(None, trajectory.response_token_ids, named("response"))
        found = _of_mask(ids, np.array(trajectory.response_mask, dtype=np.int8), field)
    if len(found.turns) > MOST_ASSISTANT_TURNS:
        raise InvalidRequest(
            f"the policy has {len(found.turns)} turns; {MOST_ASSISTANT_TURNS} can be priced, leave out the last",
            field=field,
        )
    return found


def _of_mask(ids: Ids, mask: NDArray[np.int8], field: str) -> TurnTokens:
    if len(mask) != len(ids):
        raise InvalidRequest(
            f"response_mask has {len(mask)} numbers and response_token_ids has {len(ids)}; give one a token",
            field=field,
        )
    if not mask.any():
        raise EmptyResponse("the policy wrote none of the tokens: response_mask has no 1", field=field)
    if not mask[0]:
        raise InvalidRequest(
            "response_mask begins with 0: what stands before the policy's first token belongs to the prompt",
            field=field,
        )
    borders = np.flatnonzero(np.diff(mask, prepend=0, append=0)).tolist()
    turns = tuple(zip(borders[::2], borders[1::2], strict=True))
    return TurnTokens(ids[: turns[-1][1]], turns)


@dataclass
class _Joined:
    """Grows one turn after the other."""

    ends: frozenset[int]
    pieces: list[Ids] = field(default_factory=list)
    turns: list[tuple[int, int]] = field(default_factory=list)
    length: int = 0

    def policy(self, ids: Ids) -> None:
        self.turns.append((self.length, self.length + len(ids)))
        self._add(ids)

    def environment(self, ids: Ids) -> None:
        """Add what follows a turn of the policy, whose end token is the policy's and stands there once."""
        start, end = self.turns[-1]
        count = int(np.argmin([*(int(token) in self.ends for token in ids.tolist()), False]))
        if self.pieces and len(self.pieces[-1]) and int(self.pieces[-1][-1]) in self.ends:
            ids = ids[count:]
        else:
            self.turns[-1] = (start, end + count)
        self._add(ids)

    def _add(self, ids: Ids) -> None:
        self.pieces.append(ids)
        self.length += len(ids)


def _of_messages(
    turns: Sequence[Turn], fields: FieldTokenizer, where: str, prompt: Ids, *, chat: bool
) -> TurnTokens:
    if turns[0].role != "assistant":
        raise InvalidRequest(
            f"the first turn is the {turns[0].role}'s; what stands before the policy's first turn belongs to the "
            "prompt",
            field=f"{where}.0.role",
        )
    joined = _Joined(fields.tokenizer.end_ids if chat else frozenset())
    own = [at for at, turn in enumerate(turns) if turn.role == "assistant"]
    for at, after in zip(own, [*own[1:], None], strict=True):
        before = joined.pieces[-1] if joined.pieces else prompt
        joined.policy(_policy(turns[at], before, fields, f"{where}.{at}", chat=chat))
        if after is not None:
            said = turns[at + 1 : after]
            joined.environment(_environment(turns[at], said, fields, f"{where}.{at + 1}", chat=chat))
    if not any(end > start for start, end in joined.turns):
        raise EmptyResponse("the assistant's turns have no tokens; give what the policy wrote", field=where)
    return TurnTokens(np.concatenate(joined.pieces), tuple(joined.turns))


def _policy(turn: Turn, before: Ids, fields: FieldTokenizer, where: str, *, chat: bool) -> Ids:
    if turn.token_ids is not None:
        return fields.checked(as_ids(turn.token_ids), f"{where}.token_ids")
    if not chat:
        return fields.text(turn.content, f"{where}.content")
    try:
        text = fields.tokenizer.spoken(_message(turn))
    except InvalidRequest as error:
        raise InvalidRequest(error.message, field=where) from error
    opening = fields.tokenizer.tags.open
    if text.lstrip().startswith(opening) and _opened(before, fields):
        text = text.lstrip().removeprefix(opening).lstrip("\n")
    return fields.text(text, f"{where}.content")


def _opened(before: Ids, fields: FieldTokenizer) -> bool:
    """Whether the template has opened the thought already."""
    return fields.tokenizer.decode(before[-32:]).rstrip().endswith(fields.tokenizer.tags.open)


def _environment(last: Turn, turns: Sequence[Turn], fields: FieldTokenizer, where: str, *, chat: bool) -> Ids:
    by_ids = [turn.token_ids is not None for turn in turns]
    if any(by_ids) or not chat or (not turns and last.token_ids is not None):
        if chat and not all(by_ids):
            raise InvalidRequest(
                "some of the turns between two of the assistant's have token_ids and some have not, so the "
                "template cannot write what stands around them; give all of them one way",
                field=where,
            )
        parts = [
            fields.text(turn.content, where)
            if turn.token_ids is None
            else fields.checked(as_ids(turn.token_ids), f"{where}.token_ids")
            for turn in turns
        ]
        return np.concatenate([*parts, as_ids([])])
    try:
        text = fields.tokenizer.between([_message(turn) for turn in turns])
    except InvalidRequest as error:
        raise InvalidRequest(error.message, field=where) from error
    return fields.text(text, where)


def _message(turn: Turn) -> dict[str, object]:
    """Return the turn as templates know messages: an environment speaks as a user does."""
    readable(turn.content, "turns")
    role = "user" if turn.role == "environment" else turn.role
    return {**turn.model_dump(exclude={"token_ids"}), "role": role}
