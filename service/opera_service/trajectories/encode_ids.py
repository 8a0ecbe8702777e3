"""Mode `ids`: contexts are literal prefixes of the rollout's own tokens, as views of one array.

Knows no groups' references and no rewards.
"""

from __future__ import annotations

import numpy as np

from opera_service.scoring.tree import Ids
from opera_service.trajectories.encoded import EncodedTrajectory, Segment
from opera_service.trajectories.encoding_config import EncodingConfig
from opera_service.trajectories.reflection import is_reflective
from opera_service.trajectories.segments import first_at_least, last_at_most, paragraphs, spans
from opera_service.trajectories.think import Thought, find_thought
from opera_service.trajectories.token_bytes import Ends
from opera_service.trajectories.tokenizer import Tokenizer


def encode_ids(
    name: str,
    response: Ids,
    text: str | None,
    *,
    prompt: Ids,
    initial: Ids,
    opened: bool,
    tokenizer: Tokenizer,
    rules: EncodingConfig,
) -> EncodedTrajectory:
    """Encode one response; `text` is what to show instead of the decoded ids, `opened` as in `find_thought`.

    End-of-turn tokens at the very end of the response stand in no context; the answer keeps its first one when
    `rules.context.score_end` prices the reference's, too.
    """
    length = without_end(response, tokenizer.eos_id)
    body = response[:length]
    raw, ends = tokenizer.to_bytes(body), tokenizer.byte_ends(body)
    thought = find_thought(raw, rules.think, opened=opened)
    cuts = spans(paragraphs(raw, thought.start, thought.end, rules.segment.separator), ends, rules.segment)
    segments = []
    for cut in cuts:
        shown = raw[cut.byte_start : cut.byte_end].decode(errors="replace").strip()
        segments.append(Segment(cut.start, cut.end, shown, is_reflective(shown, rules.reflection_words)))

    path, before = np.concatenate([prompt, response]), len(prompt)
    answer = before + answer_start(thought, ends)
    answer_end = before + min(length + rules.context.score_end, len(response))
    return EncodedTrajectory(
        id=name,
        text=tokenizer.decode(response) if text is None else text,
        thought=raw[thought.start : thought.end].decode(errors="replace"),
        answer=raw[thought.answer :].decode(errors="replace"),
        segments=tuple(segments),
        contexts=(initial, *(path[: before + cut.end] for cut in cuts)),
        full=path[: before + length],
        answer_context=path[:answer],
        answer_ids=path[:0] if "empty_answer" in thought.flags else path[answer:answer_end],
        response_tokens=len(response),
        flags=thought.flags,
    )


def without_end(ids: Ids, eos_id: int | None) -> int:
    """Return how many of `ids` come before the end-of-turn tokens at their end."""
    text = np.flatnonzero(ids != eos_id) if eos_id is not None else np.arange(len(ids))
    return int(text[-1]) + 1 if len(text) else 0


def answer_start(thought: Thought, ends: Ends) -> int:
    """Keep the token of the answer's first character, but none that holds a part of the closing tag."""
    return max(last_at_most(ends, thought.answer), first_at_least(ends, thought.close_end))
