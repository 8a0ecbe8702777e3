import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opera_service.trajectories.encoding_config import SegmentConfig
from opera_service.trajectories.segments import Paragraph, first_at_least, last_at_most, paragraphs, spans

BYTE_BY_BYTE = SegmentConfig(min_tokens=0, max_segments=None)


def texts(thought: str, separator: str = "\n\n") -> list[str]:
    raw = thought.encode()
    return [raw[p.start : p.end].decode() for p in paragraphs(raw, 0, len(raw), separator)]


def cuts(thought: str, tokens: list[str], rules: SegmentConfig = BYTE_BY_BYTE) -> list[tuple[int, int]]:
    """Token spans of the segments of a thought that is written as `tokens`."""
    assert "".join(tokens).startswith(thought)
    raw = thought.encode()
    ends = np.cumsum([len(token.encode()) for token in tokens])
    found = spans(paragraphs(raw, 0, len(raw), rules.separator), ends, rules)
    assert all((span.byte_start, span.byte_end) != (0, 0) for span in found)
    return [(span.start, span.end) for span in found]


@pytest.mark.parametrize(
    ("thought", "expected"),
    [
        ("a\n\nb", ["a\n\n", "b"]),
        ("a\nb", ["a\nb"]),
        ("a\n\n\n\nb\n", ["a\n\n\n\n", "b\n"]),
        ("a\r\n\r\nb", ["a\r\n\r\n", "b"]),
        ("a\n \t\n  b", ["a\n \t\n", "  b"]),
        ("a\n\u3000\nb\n\u00a0\n", ["a\n\u3000\n", "b\n\u00a0\n"]),
        ("\n\na\n\nb", ["\n\na\n\n", "b"]),
        ("a\n\n   ", ["a\n\n   "]),
        ("", []),
        (" \n\n\u3000 \n", []),
        ("等等\n\n😀", ["等等\n\n", "😀"]),
    ],
)
def test_a_paragraph_ends_after_its_whole_separator_run(thought, expected):
    assert texts(thought) == expected


def test_other_separators():
    assert texts("a\nb\n\nc", "\n") == ["a\n", "b\n\n", "c"]
    assert texts("a\n\nb\n\n\n\nc", "\n\n\n") == ["a\n\nb\n\n\n\n", "c"]
    assert texts("a---b------\n\nc", "---") == ["a---", "b------\n\n", "c"]


@given(
    st.lists(st.sampled_from(["a", "é", "\n", "\r\n", " ", "\n\n", "\u3000", "Wait"]), max_size=30).map("".join)
)
def test_paragraphs_tile_the_thought_and_hold_text(thought):
    found = texts(thought)
    assert "".join(found) == (thought if thought.strip() else "")
    assert all(part.strip() for part in found)


def test_only_the_given_range_is_cut():
    raw = b"x\n\ny<think>a\n\nb</think>\n\nz"
    found = paragraphs(raw, 11, 15, "\n\n")
    assert [raw[p.start : p.end] for p in found] == [b"a\n\n", b"b"]


def test_offsets_become_token_counts():
    ends = np.array([2, 5, 5, 9])
    assert [first_at_least(ends, offset) for offset in (0, 1, 2, 3, 5, 6, 9)] == [0, 1, 1, 2, 2, 4, 4]
    assert [last_at_most(ends, offset) for offset in (0, 1, 2, 4, 5, 8, 9)] == [0, 0, 1, 1, 3, 3, 4]


def test_the_token_that_holds_the_separator_belongs_to_the_earlier_segment():
    assert cuts("aa.\n\nbb", ["aa", ".\n\n", "bb"]) == [(0, 2), (2, 3)]
    assert cuts("aa.\n\nbb", ["aa", ".\n", "\nb", "b"]) == [(0, 3), (3, 4)]


def test_equal_cuts_merge():
    assert cuts("a\n\nb\n\nc", ["a\n\nb\n\n", "c"]) == [(0, 1), (1, 2)]


def test_no_boundary_reaches_past_the_thought():
    assert cuts("aa\n\nbb.", ["aa", "\n\n", "bb", ".</", "think>"]) == [(0, 2), (2, 3)]
    assert cuts("aa\n\n.", ["aa", "\n\n", ".</", "think>"]) == [(0, 2)]
    assert cuts(".", [".</", "think>"]) == []


def test_short_paragraphs_join_the_next_and_a_last_short_one_the_one_before():
    tokens = list("abcd\n\ne\n\nfghij\n\nk")
    rules = SegmentConfig(min_tokens=5, max_segments=None)
    assert cuts("".join(tokens), tokens, rules) == [(0, 6), (6, 17)]
    assert cuts("e\n\nfghij", list("e\n\nfghij"), rules) == [(0, 8)]
    assert cuts("abcde\n\nf", list("abcde\n\nf"), rules) == [(0, 8)]


def test_a_single_short_paragraph_stays():
    assert cuts("ab", ["a", "b"], SegmentConfig(min_tokens=5)) == [(0, 2)]


def test_paragraphs_past_the_limit_join_the_last():
    tokens = list("a\n\nb\n\nc\n\nd")
    assert cuts("".join(tokens), tokens, SegmentConfig(min_tokens=0, max_segments=2)) == [(0, 3), (3, 10)]
    assert cuts("".join(tokens), tokens, SegmentConfig(min_tokens=0, max_segments=1)) == [(0, 10)]
    assert len(cuts("".join(tokens), tokens, SegmentConfig(min_tokens=0, max_segments=4))) == 4


@given(
    st.lists(st.sampled_from(["aa", ".\n\n", "\n", "b\n\nc", "é", "\n\n"]), min_size=1, max_size=30),
    st.integers(0, 4),
    st.none() | st.integers(1, 3),
)
def test_segments_tile_the_thoughts_tokens(tokens, min_tokens, max_segments):
    thought = "".join(tokens)
    rules = SegmentConfig(min_tokens=min_tokens, max_segments=max_segments)
    found = cuts(thought, tokens, rules)
    if not thought.strip():
        assert found == []
        return
    starts, ends = zip(*found, strict=True)
    assert starts == (0, *ends[:-1])
    assert ends[-1] == len(tokens)
    assert all(start < end for start, end in found)
    assert len(found) == 1 or all(end - start >= min_tokens for start, end in found)
    assert max_segments is None or len(found) <= max_segments


def test_the_smallest_token_count_that_covers_each_boundary_against_brute_force():
    tokens = ["ab", "c\n", "\nd", "ef", ".\n\n", "g", "h\n", "\n\n", "ij"]
    raw = "".join(tokens).encode()
    ends = np.cumsum([len(token) for token in tokens])
    found = paragraphs(raw, 0, len(raw), "\n\n")
    assert found == [Paragraph(0, 5), Paragraph(5, 11), Paragraph(11, 16), Paragraph(16, 18)]
    brute = [min(k for k in range(len(tokens) + 1) if len("".join(tokens[:k])) >= p.end) for p in found]
    assert [span.end for span in spans(found, ends, BYTE_BY_BYTE)] == brute == [3, 5, 8, 9]
