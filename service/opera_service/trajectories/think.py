"""Where the thought is in a response: byte offsets of the first think block and of the answer after it.

Works on bytes, as tokens do. Knows no tokens and no paragraphs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from opera_service.trajectories.encoding_config import ThinkConfig

SPACE = rb"(?:\s|\xc2\xa0|\xe3\x80\x80)"
"""One white space, the no-break and the ideographic one included, as a pattern on UTF-8 bytes."""
_SPACES = re.compile(SPACE + rb"*+")

PromptThought = Literal["unopened", "open", "closed"]


@dataclass(frozen=True)
class Thought:
    """The first think block of a response; all numbers are byte offsets, ends exclusive."""

    block_start: int
    """Where the opening tag begins; 0 when the prompt opened the block, or there is none."""
    start: int
    """Just after the opening tag; `start == end` when there is no thought."""
    end: int
    """Just before the closing tag, or the end of the response when the block is unclosed."""
    close_end: int
    """Just after the closing tag; the end of the response when unclosed, 0 when there is no block."""
    answer: int
    """Where the answer starts: after the closing tag and the whitespace that follows it."""
    flags: tuple[str, ...]
    """Any of `think_missing`, `answer_only`, `think_unclosed`, `think_unopened`, `think_repeated`,
    `think_in_prompt`, `empty_think`, `empty_answer`."""

    @property
    def closed(self) -> bool:
        """Whether there is a block with both tags."""
        return self.close_end > 0 and "think_unclosed" not in self.flags


def prompt_thought(prompt: bytes, rules: ThinkConfig, header: bytes) -> PromptThought:
    """Say whether the prompt leaves a think block open, or has closed one, for the turn that follows it.

    Templates open a block at the very end, or write an empty one; an assistant's prefill begins right behind
    `header`. An instruction that merely mentions the tags does neither.
    """
    opening, closing, header = rules.open_tag, rules.close_tag, header.rstrip()
    last = prompt.rfind(opening)
    if last < 0:
        return "unopened"
    prefilled = bool(header) and prompt[:last].rstrip().endswith(header) and header not in prompt[last:]
    inside, tag, behind = prompt[last + len(opening) :].partition(closing)
    if not tag:
        return "open" if prefilled or is_blank(inside) else "unopened"
    return "closed" if prefilled or (is_blank(inside) and is_blank(behind)) else "unopened"


def find_thought(
    response: bytes, rules: ThinkConfig, *, prompt: PromptThought = "unopened", lone_close: bool = True
) -> Thought:
    """Find the first think block; `prompt` says what the prompt did about it already.

    With `lone_close` a closing tag without an opening one ends a thought that began with the response, flagged
    `think_unopened`: the policy's own prompt opened it. A block opened by the prompt and again at the start of the
    response is one block, flagged `think_repeated`. Behind a block that the prompt closed everything is answer,
    flagged `think_in_prompt`.
    """
    opening, closing = rules.open_tag, rules.close_tag
    if rules.mode == "none":
        answer = _skip_space(response, 0)
        return Thought(0, 0, 0, 0, answer, ("empty_answer",) if answer == len(response) else ())
    first, close = response.find(opening), response.find(closing)
    again = prompt == "open" and first >= 0 and is_blank(response[:first])
    unopened = prompt == "unopened" and lone_close and close >= 0 and (first < 0 or close < first)
    if prompt == "closed" or (prompt == "unopened" and first < 0 and not unopened):
        answer = _skip_space(response, 0)
        present = {
            "think_missing": prompt == "unopened" and rules.mode == "required",
            "answer_only": prompt == "unopened" and rules.mode == "optional",
            "think_in_prompt": prompt == "closed",
            "think_repeated": prompt == "closed" and (first >= 0 or close >= 0),
            "empty_answer": answer == len(response),
        }
        return Thought(0, 0, 0, 0, answer, tuple(flag for flag, is_so in present.items() if is_so))
    begun = unopened or (prompt == "open" and not again)
    block_start, start = (0, 0) if begun else (first, first + len(opening))

    close = response.find(closing, start)
    end = close if close >= 0 else len(response)
    close_end = end + len(closing) if close >= 0 else len(response)
    answer = _skip_space(response, close_end)
    present = {
        "think_unclosed": close < 0,
        "think_unopened": unopened,
        "think_repeated": again or opening in response[start:] or closing in response[close_end:],
        "empty_think": is_blank(response[start:end]),
        "empty_answer": answer == len(response),
    }
    flags = tuple(flag for flag, is_so in present.items() if is_so)
    return Thought(block_start, start, end, close_end, answer, flags)


def is_blank(text: bytes) -> bool:
    """Whether there is nothing but white space."""
    return _SPACES.fullmatch(text) is not None


def _skip_space(response: bytes, start: int) -> int:
    space = _SPACES.match(response, start)
    return space.end() if space else start
