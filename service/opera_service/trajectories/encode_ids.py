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
from opera_service.trajectories.think import PromptThought, Thought, find_thought, is_blank
from opera_service.trajectories.token_bytes import Ends
from opera_service.trajectories.tokenizer import Tokenizer


def encode_ids(
    name: str,
    response: Ids,
    text: str | None,
    *,
    prompt: Ids,
    initial: Ids,
    opened: PromptThought,
    tokenizer: Tokenizer,
    rules: EncodingConfig,
) -> EncodedTrajectory:
    """Encode one response; `text` is what to show instead of the decoded ids, `opened` as in `find_thought`.

    End-of-turn tokens and padding behind the response stand in no context; the answer keeps its own end when
    `rules.context.score_end` prices the reference's, too. A thought that the response closes without having opened
    it follows `initial`, which opens it.
    """
    length = without_end(response, tokenizer)
    body = response[:length]
    raw, ends = tokenizer.to_bytes(body), tokenizer.byte_ends(body)
    thought = find_thought(raw, rules.think, prompt=opened)
    cuts = spans(paragraphs(raw, thought.start, thought.end, rules.segment.separator), ends, rules.segment)
    segments = []
    for cut in cuts:
        shown = raw[cut.byte_start : cut.byte_end].decode(errors="replace").strip()
        segments.append(Segment(cut.start, cut.end, shown, is_reflective(shown, rules.reflection_words)))

    start = initial if "think_unopened" in thought.flags else prompt
    path, before = np.concatenate([start, response]), len(start)
    answer = answer_start(thought, ends)
    unwritten = is_blank(tokenizer.to_bytes(body[answer:], skip_special=True))
    ended = length < len(response) and int(response[length]) in tokenizer.end_ids
    answer_end = length + (rules.context.score_end and ended)
    present = {
        "empty_answer": unwritten and "empty_answer" not in thought.flags,
        "text_after_end": bool(np.isin(body, list(tokenizer.end_ids)).any()),
    }
    flags = thought.flags + tuple(flag for flag, is_so in present.items() if is_so)
    return EncodedTrajectory(
        id=name,
        text=tokenizer.decode(response) if text is None else text,
        thought=raw[thought.start : thought.end].decode(errors="replace"),
        answer=raw[thought.answer :].decode(errors="replace"),
        segments=tuple(segments),
        contexts=(initial, *(path[: before + cut.end] for cut in cuts)),
        full=path[: before + length],
        answer_context=path[: before + answer],
        answer_ids=path[:0] if "empty_answer" in flags else path[before + answer : before + answer_end],
        response_tokens=len(response),
        before=raw[: thought.block_start].decode(errors="replace").strip(),
        flags=flags,
    )


def without_end(ids: Ids, tokenizer: Tokenizer) -> int:
    """Return how many of `ids` come before the run of end-of-turn tokens and padding that they end with.

    White space between and behind those belongs to the run; without any it stays.
    """
    at = length = len(ids)
    while at and (int(ids[at - 1]) in tokenizer.closing_ids or is_blank(tokenizer.to_bytes(ids[at - 1 : at]))):
        at -= 1
        if int(ids[at]) in tokenizer.closing_ids:
            length = at
    return length


def answer_start(thought: Thought, ends: Ends) -> int:
    """Keep the token of the answer's first character, but none that holds a part of the closing tag."""
    return max(last_at_most(ends, thought.answer), first_at_least(ends, thought.close_end))
