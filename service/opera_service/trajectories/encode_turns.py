"""A trajectory of several turns: each turn is encoded as a response to everything before it, then they are one.

Contexts stay literal prefixes of the trajectory's own tokens. A template that would drop the thoughts of earlier
turns is never asked to: what the policy saw and wrote is what is priced. Knows no references and no rewards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from opera_service.scoring.tree import Ids
from opera_service.trajectories.encode_ids import LINE_END, encode_ids
from opera_service.trajectories.encoded import EncodedTrajectory, EncodedTurn, PolicyTokens, Segment, Span
from opera_service.trajectories.encoding_config import ResolvedEncoding
from opera_service.trajectories.think import PromptThought, prompt_thought
from opera_service.trajectories.tokenizer import Tokenizer
from opera_service.trajectories.turn_tokens import TurnTokens

BETWEEN_TURNS = "\n\n"
"""Stands between the policy's texts where they are read as one."""
_OF_ALL_TURNS = ("think_missing", "answer_only", "empty_think")
"""Flags that a trajectory has when every one of its turns has them."""
_OF_THE_LAST_TURN = ("empty_answer",)


def encode_turns(
    name: str,
    tokens: TurnTokens,
    *,
    prompt: Ids,
    initial: Ids,
    opened: PromptThought,
    tokenizer: Tokenizer,
    rules: ResolvedEncoding,
) -> EncodedTrajectory:
    """Encode a trajectory after `prompt`; `initial` and `opened` are the prompt's, as in `encode_ids`.

    A later turn's thought is open where its own beginning, or what the environment wrote before it, opens it. In a
    group whose prompt has closed the thought, later turns have none either. All turns together have at most as
    many segments as the rules allow one thought, and one more a turn.
    """
    path, before, left = prompt, initial, rules.segment.most
    found: list[EncodedTrajectory] = []
    for number, (start, end) in enumerate(tokens.turns):
        if number:
            said = tokens.ids[tokens.turns[number - 1][1] : start]
            path = np.concatenate([path, said])
            if opened != "closed":
                opened = prompt_thought(tokenizer.to_bytes(said), rules.think, tokenizer.header.encode())
                opened = "unopened" if opened == "closed" else opened
            opening = tokenizer.encode_inside(rules.context.opening or "") if opened == "unopened" else path[:0]
            before = np.concatenate([path, opening])
        segments = rules.segment.model_copy(update={"max_segments": max(1, left)})
        one = encode_ids(
            str(number), tokens.ids[start:end], None,
            prompt=path, initial=before, opened=opened,
            tokenizer=tokenizer, rules=replace(rules, segment=segments),
        )  # fmt: skip
        left -= len(one.segments)
        path = np.concatenate([before if "think_unopened" in one.flags else path, tokens.ids[start:end]])
        found.append(one)
    return _joined(name, tokens, found, initial, tokenizer)


def _joined(
    name: str, tokens: TurnTokens, turns: Sequence[EncodedTrajectory], initial: Ids, tokenizer: Tokenizer
) -> EncodedTrajectory:
    last, answer_only = turns[-1], all(one.answer_only for one in turns)
    segments: list[Segment] = []
    contexts: list[Ids] = []
    unmarked: list[Ids | None] = []
    for number, (one, (start, _)) in enumerate(zip(turns, tokens.turns, strict=True)):
        if number:
            said = _text([turns[number - 1].outside, one.before])
            segments.append(Segment(start, start, said, reflective=False, between=True))
            unmarked.append(None)
        contexts += one.contexts
        segments += [replace(each, start=start + each.start, end=start + each.end) for each in one.segments]
        unmarked += one.unmarked
    line_end = tokenizer.encode_inside(LINE_END)
    in_its_place = np.concatenate([last.contexts[0], last.plain_answer, line_end])
    afters = [*(one.contexts[0] for one in turns[1:]), in_its_place if answer_only else last.contexts[-1]]
    written = sum(end - start for start, end in tokens.turns)
    return replace(
        last,
        id=name,
        text=_text([one.text for one in turns]),
        thought=_text([one.thought for one in turns]),
        segments=tuple(segments),
        contexts=tuple(contexts),
        answer_thought=np.concatenate([initial, last.plain_answer, line_end]),
        outside=_text([one.outside for one in turns]),
        response_tokens=written,
        before=turns[0].before,
        answer_only=answer_only,
        unmarked=tuple(unmarked),
        policy=_policy(tokens, turns),
        turns=tuple(
            EncodedTurn(start, end, one.contexts[0], after)
            for (start, end), one, after in zip(tokens.turns, turns, afters, strict=True)
        ),
        environment_tokens=len(tokens.ids) - written,
        flags=_flags(turns),
    )


def _policy(tokens: TurnTokens, turns: Sequence[EncodedTrajectory]) -> PolicyTokens:
    """Return the turns' tokens at their places in the trajectory; what the policy saw between them is context."""
    each = [one.policy for one in turns if one.policy is not None]
    starts = [start for start, _ in tokens.turns]

    def placed(spans: Sequence[tuple[Span, ...]]) -> tuple[Span, ...]:
        pairs = zip(starts, spans, strict=True)
        return tuple((start + low, start + high) for start, ((low, high),) in pairs)

    return PolicyTokens(
        context=each[0].context,
        ids=tokens.ids,
        written=placed([one.written for one in each]),
        thoughts=placed([one.thoughts for one in each]),
        answers=placed([one.answers for one in each]),
    )


def _text(texts: Sequence[str]) -> str:
    return BETWEEN_TURNS.join(text for text in texts if text)


def _flags(turns: Sequence[EncodedTrajectory]) -> tuple[str, ...]:
    """Return what the turns' flags say of them all; each once, in the order of the turns."""
    whole = {flag for flag in _OF_ALL_TURNS if all(flag in one.flags for one in turns)}
    whole |= set(_OF_THE_LAST_TURN).intersection(turns[-1].flags)
    partial = {*_OF_ALL_TURNS, *_OF_THE_LAST_TURN} - whole
    return tuple(dict.fromkeys(flag for one in turns for flag in one.flags if flag not in partial))
