"""Mode `ids`: contexts are literal prefixes of the rollout's own tokens, as views of one array.

Knows no groups' references and no rewards.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from opera_service.scoring.tree import Ids
from opera_service.trajectories.encoded import EncodedTrajectory, PolicyTokens, Segment, Span
from opera_service.trajectories.encoding_config import EncodingConfig
from opera_service.trajectories.reflection import is_reflective, without_markers
from opera_service.trajectories.segments import first_at_least, last_at_most, paragraphs, spans
from opera_service.trajectories.think import PromptThought, Thought, find_thought, is_blank
from opera_service.trajectories.token_bytes import Ends
from opera_service.trajectories.tokenizer import Tokenizer

LINE_END = "\n"


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
    start = initial if "think_unopened" in thought.flags else prompt
    path, before = np.concatenate([start, response]), len(start)
    segments: list[Segment] = []
    unmarked: list[Ids | None] = []
    for cut in cuts:
        shown = raw[cut.byte_start : cut.byte_end].decode(errors="replace").strip()
        reflective = is_reflective(shown, rules.reflection_words)
        segments.append(Segment(cut.start, cut.end, shown, reflective))
        if reflective:
            plain = without_markers(shown, rules.reflection_words) + rules.segment.separator
            unmarked.append(np.concatenate([path[: before + cut.start], tokenizer.encode_inside(plain)]))
        else:
            unmarked.append(None)

    answer = answer_start(thought, ends)
    unwritten = is_blank(tokenizer.to_bytes(body[answer:], skip_special=True))
    ended = length < len(response) and int(response[length]) in tokenizer.end_ids
    answer_end = length + (rules.context.score_end and ended)
    present = {
        "empty_answer": unwritten and "empty_answer" not in thought.flags,
        "text_after_end": bool(np.isin(body, list(tokenizer.end_ids)).any()),
        "text_ids_differ": text is not None and differ(text, response, tokenizer),
    }
    flags = thought.flags + tuple(flag for flag, is_so in present.items() if is_so)
    plain_answer = path[:0] if "empty_answer" in flags else body[answer:][_is_text(body, tokenizer)[answer:]]
    if present["text_after_end"]:  # a line end behind the turn's end is no part of the answer
        plain_answer = _without_blank_tail(plain_answer, tokenizer)
    return EncodedTrajectory(
        id=name,
        text=tokenizer.decode(response) if text is None else text,
        decoded=tokenizer.decode(response) if present["text_ids_differ"] else None,
        thought=raw[thought.start : thought.end].decode(errors="replace"),
        answer=raw[thought.answer :].decode(errors="replace"),
        segments=tuple(segments),
        contexts=(initial, *(path[: before + cut.end] for cut in cuts)),
        full=path[: before + length],
        answer_context=path[: before + answer],
        answer_ids=path[:0] if "empty_answer" in flags else path[before + answer : before + answer_end],
        answer_thought=np.concatenate([initial, plain_answer, tokenizer.encode_inside(LINE_END)]),
        plain_answer=plain_answer,
        outside=(raw[: thought.block_start] + raw[thought.close_end :]).decode(errors="replace"),
        response_tokens=len(response),
        before=raw[: thought.block_start].decode(errors="replace").strip(),
        answer_only=thought.close_end == 0 and "think_missing" not in thought.flags,
        unmarked=tuple(unmarked),
        policy=PolicyTokens(
            context=start,
            ids=response,
            written=((0, length + ended),),
            thoughts=(_thought_span(thought, ends),),
            answers=((answer, length),),
        ),
        flags=flags,
    )


def _thought_span(thought: Thought, ends: Ends) -> Span:
    """Return the tokens of a thought; one that also holds a part of a tag stays out."""
    start = first_at_least(ends, thought.start)
    return start, max(start, last_at_most(ends, thought.end))


def _is_text(ids: Ids, tokenizer: Tokenizer) -> NDArray[np.bool_]:
    """Return which ids a reader sees: special tokens could end the thought that an answer stands for."""
    return np.asarray(np.diff(tokenizer.byte_ends(ids, skip_special=True), prepend=0) > 0)


def _without_blank_tail(ids: Ids, tokenizer: Tokenizer) -> Ids:
    while len(ids) and is_blank(tokenizer.to_bytes(ids[-1:])):
        ids = ids[:-1]
    return ids


def differ(text: str, ids: Ids, tokenizer: Tokenizer) -> bool:
    """Whether `text` is not what `ids` say, with or without special tokens; blanks at the ends do not count."""
    return text.strip() not in (tokenizer.decode(ids).strip(), tokenizer.decode(ids, skip_special=True).strip())


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
