"""Where the thought is in a response: byte offsets of the first think block and of the answer after it.

Works on bytes, as tokens do. Knows no tokens and no paragraphs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from opera_service.trajectories.encoding_config import ThinkConfig

SPACE = rb"(?:\s|\xc2\xa0|\xe3\x80\x80)"
"""One white space, the no-break and the ideographic one included, as a pattern on UTF-8 bytes."""
_SPACES = re.compile(SPACE + rb"*+")


@dataclass(frozen=True)
class Thought:
    """The first think block of a response; all numbers are byte offsets, ends exclusive."""

    start: int
    """Just after the opening tag; `start == end` when there is no thought."""
    end: int
    """Just before the closing tag, or the end of the response when the block is unclosed."""
    close_end: int
    """Just after the closing tag; the end of the response when unclosed, 0 when there is no block."""
    answer: int
    """Where the answer starts: after the closing tag and the whitespace that follows it."""
    flags: tuple[str, ...]
    """Any of `think_missing`, `think_unclosed`, `think_repeated`, `empty_think`, `empty_answer`."""

    @property
    def closed(self) -> bool:
        """Whether there is a block with both tags."""
        return not {"think_missing", "think_unclosed"} & set(self.flags)


def opens_thought(prompt: bytes, rules: ThinkConfig) -> bool:
    """Whether the prompt leaves a think block open, as templates that prefill `<think>` do.

    Only an opening tag at the very end counts: an instruction that merely mentions the tag opens nothing.
    """
    last = prompt.rfind(rules.open.encode())
    return last >= 0 and is_blank(prompt[last + len(rules.open.encode()) :])


def find_thought(response: bytes, rules: ThinkConfig, *, opened: bool) -> Thought:
    """Find the first think block; `opened` says that the prompt opened it already.

    A closing tag without an opening one is no block. A block opened by the prompt and again at the start of
    the response is one block, flagged `think_repeated`.
    """
    opening, closing = rules.open.encode(), rules.close.encode()
    first = response.find(opening)
    again = opened and first >= 0 and is_blank(response[:first])
    if opened and not again:
        start = 0
    elif first >= 0:
        start = first + len(opening)
    else:
        answer = _skip_space(response, 0)
        flags = ["think_missing"] + ["empty_answer"] * (answer == len(response))
        return Thought(0, 0, 0, answer, tuple(flags))

    close = response.find(closing, start)
    end = close if close >= 0 else len(response)
    close_end = end + len(closing) if close >= 0 else len(response)
    answer = _skip_space(response, close_end)
    present = {
        "think_unclosed": close < 0,
        "think_repeated": again or opening in response[start:] or closing in response[close_end:],
        "empty_think": is_blank(response[start:end]),
        "empty_answer": answer == len(response),
    }
    return Thought(start, end, close_end, answer, tuple(flag for flag, is_so in present.items() if is_so))


def is_blank(text: bytes) -> bool:
    """Whether there is nothing but white space."""
    return _SPACES.fullmatch(text) is not None


def _skip_space(response: bytes, start: int) -> int:
    space = _SPACES.match(response, start)
    return space.end() if space else start
