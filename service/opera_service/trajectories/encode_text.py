"""Mode `text`: contexts as the released code makes them, by decoding, joining and tokenising again (defect D4).

For parity only: special tokens vanish (D3), blank lines change, and a prompt that opened the think block gets no
segments (D19).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from opera_service.scoring.tree import Ids, as_ids
from opera_service.trajectories.encode_ids import differ
from opera_service.trajectories.encoded import EncodedTrajectory, Segment
from opera_service.trajectories.encoding_config import EncodingConfig
from opera_service.trajectories.growing_text import GrowingText
from opera_service.trajectories.patience import must_be_wanted
from opera_service.trajectories.reflection import is_reflective
from opera_service.trajectories.segments import first_at_least, last_at_most
from opera_service.trajectories.think import Thought, find_thought
from opera_service.trajectories.tokenizer import Tokenizer

SEPARATOR = "\n\n"


def encode_text(
    name: str,
    response: Ids,
    text: str | None,
    *,
    prompt: str,
    initial: Ids,
    tokenizer: Tokenizer,
    rules: EncodingConfig,
    check: Callable[[Ids], None],
) -> EncodedTrajectory:
    """Encode one response after the prompt's text; segments are placed in the response's own tokens.

    `check` raises when a context is not fit for the model; the whole response is checked first.
    """
    raw = tokenizer.to_bytes(response, skip_special=True)
    ends = tokenizer.byte_ends(response, skip_special=True)
    thought = find_thought(raw, rules.think, lone_close=False)
    decoded = raw.decode(errors="replace")
    full = standalone(prompt + decoded, tokenizer)
    check(full)
    segments: list[Segment] = []
    joined = GrowingText(prompt + rules.think.open, tokenizer)
    limit = last_at_most(ends, thought.end)
    for begin, end, shown in _paragraphs(raw, thought, rules.segment.most):
        must_be_wanted()
        joined.add(shown + SEPARATOR)
        first, last = (min(first_at_least(ends, offset), limit) for offset in (begin, end))
        segments.append(Segment(first, last, shown, is_reflective(shown, rules.reflection_words)))
    contexts = [initial, *joined.contexts(standalone("", tokenizer), check)]

    answer = raw[thought.answer :].decode(errors="replace")
    before_answer = raw[: thought.answer].decode(errors="replace")
    return EncodedTrajectory(
        id=name,
        text=decoded if text is None else text,
        decoded=decoded if text is not None and differ(text, response, tokenizer) else None,
        thought=raw[thought.start : thought.end].decode(errors="replace"),
        answer=answer,
        segments=tuple(segments),
        contexts=tuple(contexts),
        full=full,
        answer_context=standalone(prompt + before_answer, tokenizer),
        answer_ids=tokenizer.encode(answer),
        answer_thought=standalone(f"{prompt}{rules.think.open}{answer}\n", tokenizer),
        plain_answer=tokenizer.encode(answer),
        outside=(raw[: thought.start].removesuffix(rules.think.open.encode()) + raw[thought.close_end :]).decode(
            errors="replace"
        ),
        response_tokens=len(response),
        before=raw[: thought.block_start].decode(errors="replace").strip(),
        answer_only=thought.close_end == 0 and "think_missing" not in thought.flags,
        flags=thought.flags,
    )


def _paragraphs(raw: bytes, thought: Thought, most: int) -> list[tuple[int, int, str]]:
    """Return begin and end in bytes, and the stripped text, of each paragraph; those past `most` are one."""
    found: list[tuple[int, int, str]] = []
    begin = thought.start
    for piece in raw[thought.start : thought.end].split(SEPARATOR.encode()) if thought.closed else []:
        end = min(begin + len(piece) + len(SEPARATOR), thought.end)
        shown = piece.decode(errors="replace").strip()
        if shown:
            found.append((begin, end, shown))
        begin = end
    if len(found) > most:
        rest = found[most - 1 :]
        found[most - 1 :] = [(rest[0][0], rest[-1][1], SEPARATOR.join(shown for _, _, shown in rest))]
    return found


def standalone(text: str, tokenizer: Tokenizer) -> Ids:
    """Tokenise a whole context as transformers does by default: with the start token of models that have one."""
    return np.concatenate([as_ids(tokenizer.start_ids), tokenizer.encode(text)])
