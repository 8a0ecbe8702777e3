"""Cuts a thought into segments, and places every cut between two tokens.

A boundary falls just after the separator run that ends a paragraph, at the smallest token count that covers
it: no token is ever cut, and a token that holds the separator belongs to the paragraph before. Measured: cutting
before the separator falls inside a token 92 times in 100, since `.` and two newlines are one token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from opera_service.trajectories.encoding_config import SegmentConfig
from opera_service.trajectories.think import SPACE, is_blank
from opera_service.trajectories.token_bytes import Ends


@dataclass(frozen=True)
class Paragraph:
    """Bytes [start, end) of a response, its separator run included."""

    start: int
    end: int


@dataclass(frozen=True)
class Span:
    """Tokens [start, end) and bytes [byte_start, byte_end) of one segment."""

    start: int
    end: int
    byte_start: int
    byte_end: int


def first_at_least(ends: Ends, offset: int) -> int:
    """Return the smallest k with byte_end(ids[:k]) >= offset (the whole length when there is none)."""
    if offset <= 0:
        return 0
    return min(int(np.searchsorted(ends, offset, side="left")) + 1, len(ends))


def last_at_most(ends: Ends, offset: int) -> int:
    """Return the largest k with byte_end(ids[:k]) <= offset."""
    return int(np.searchsorted(ends, offset, side="right"))


def paragraphs(response: bytes, start: int, end: int, separator: str) -> list[Paragraph]:
    """Tile response[start:end] with paragraphs; blank ones are part of their neighbour.

    The run after a paragraph is the separator and every blank line that follows, CRLF and spaces on blank
    lines included. Leading blank lines belong to the first paragraph. No text, no paragraph.
    """
    found: list[Paragraph] = []
    begin = start
    for run in _separator_run(separator).finditer(response, start, end):
        if not is_blank(response[begin : run.start()]):
            found.append(Paragraph(begin, run.end()))
            begin = run.end()
    if not is_blank(response[begin:end]):
        found.append(Paragraph(begin, end))
    elif found and begin < end:
        found[-1] = Paragraph(found[-1].start, end)
    return found


def spans(pieces: Sequence[Paragraph], ends: Ends, rules: SegmentConfig) -> list[Span]:
    """Turn paragraphs, which tile a thought, into the token spans of segments.

    `ends` are the byte ends of the response's tokens. The last boundary never reaches past the thought, so a
    token that also holds the start of the closing tag stays out. Equal cuts merge; a paragraph of fewer than
    `min_tokens` tokens joins the next one, a last short one the one before (defect D17); paragraphs past
    `max_segments` join the last.
    """
    if not pieces:
        return []
    limit = last_at_most(ends, pieces[-1].end)
    found: list[Span] = []
    start, byte_start = min(first_at_least(ends, pieces[0].start), limit), pieces[0].start
    for piece in pieces:
        cut = min(first_at_least(ends, piece.end), limit)
        if cut - start >= max(rules.min_tokens, 1):
            found.append(Span(start, cut, byte_start, piece.end))
            start, byte_start = cut, piece.end
    rest = Span(start, limit, byte_start, pieces[-1].end)
    if found and rest.byte_start < rest.byte_end:
        found[-1] = _join(found[-1], rest)
    elif not found and rest.start < rest.end:
        found.append(rest)
    if len(found) > rules.most:
        found[rules.most - 1 :] = [_join(found[rules.most - 1], found[-1])]
    return found


def _join(first: Span, last: Span) -> Span:
    return Span(first.start, last.end, first.byte_start, last.byte_end)


def _separator_run(separator: str) -> re.Pattern[bytes]:
    blank_line = rb"(?:(?:(?!\n)" + SPACE + rb")*+\n)"
    newlines = separator.count("\n")
    if newlines == len(separator):
        return re.compile(rb"\n" + blank_line + b"{%d,}+" % (newlines - 1))
    return re.compile(rb"(?:" + re.escape(separator.encode()) + rb")++" + blank_line + b"*+")
