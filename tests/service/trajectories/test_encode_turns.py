"""Turns become contexts that are literal prefixes; what the environment wrote is context and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opera_client.errors import ContextTooLong
from opera_client.wire import Group, Trajectory
from opera_service.rewards.config import RewardConfig
from opera_service.trajectories import encode as encode_module
from opera_service.trajectories.byte_tokenizer import ByteTokenizer
from opera_service.trajectories.encode import GroupEncoding, encode_group
from opera_service.trajectories.encoded import EncodedTrajectory
from opera_service.trajectories.encoding_config import ContextConfig, SegmentConfig, ThinkConfig
from opera_service.trajectories.field_tokenizer import FieldTokenizer

EVERY = RewardConfig(segment=SegmentConfig(min_tokens=0))
ASKED = [{"role": "user", "content": "Q"}]
READER = FieldTokenizer(ByteTokenizer(), vocab_size=ByteTokenizer.vocab_size, max_context=100_000)


def encoding(fields: FieldTokenizer, *trajectories: Trajectory, prompt=ASKED, rules=EVERY) -> GroupEncoding:
    return encode_group(Group(prompt=prompt, reference="R", trajectories=list(trajectories)), 0, fields, rules)


def encode(fields: FieldTokenizer, trajectory: Trajectory, **how) -> EncodedTrajectory:
    found = encoding(fields, trajectory, **how)
    assert found.errors == {}
    assert found.group is not None
    return found.group.trajectories[0]


def turns(*said: tuple[str, str]) -> Trajectory:
    return Trajectory(turns=[{"role": role, "content": content} for role, content in said])


def masked(fields: FieldTokenizer, *pieces: tuple[int, str]) -> Trajectory:
    ids = [(mask, fields.tokenizer.encode_inside(text).tolist()) for mask, text in pieces]
    return Trajectory(
        response_token_ids=[token for _, own in ids for token in own],
        response_mask=[mask for mask, own in ids for _ in own],
    )


def shown(fields: FieldTokenizer, trajectory: EncodedTrajectory) -> list[str]:
    return [fields.tokenizer.decode(context) for context in trajectory.contexts]


THREE = turns(
    ("assistant", "<think>a\n\nWait, b</think>call"),
    ("tool", "But <think>c\n\nd"),
    ("assistant", "call again"),
    ("environment", "e"),
    ("assistant", "<think>\nf\n</think>\n\nyes"),
)


def test_contexts_go_on_from_turn_to_turn(byte_reader):
    one = encode(byte_reader, THREE)
    start = "user: Q<|end|>\nassistant: "
    first = start + "<think>a\n\nWait, b"
    second = first + "</think>call<|end|>\ntool: But <think>c\n\nd<|end|>\nassistant: "
    third = second + "call again<|end|>\nuser: e<|end|>\nassistant: "
    assert shown(byte_reader, one) == [
        start + "<think>\n",
        start + "<think>a\n\n",
        first,
        second + "<think>\n",
        third + "<think>\n",
        third + "<think>\nf\n",
    ]
    decode = byte_reader.tokenizer.decode
    assert [decode(turn.before) for turn in one.turns] == [shown(byte_reader, one)[at] for at in (0, 3, 4)]
    assert [decode(turn.after) for turn in one.turns] == [shown(byte_reader, one)[at] for at in (3, 4, 5)]
    assert [(s.text, s.reflective, s.between) for s in one.segments] == [
        ("a", False, False),
        ("Wait, b", True, False),
        ("call", False, True),
        ("call again", False, True),
        ("f", False, False),
    ]
    assert decode(one.full) == third + "<think>\nf\n</think>\n\nyes"
    assert (one.answer, one.thought, one.outside) == (
        "yes",
        "a\n\nWait, b\n\n\nf\n",
        "call\n\ncall again\n\n\n\nyes",
    )
    assert decode(one.answer_thought) == start + "<think>\nyes\n"
    assert decode(one.answer_context) == third + "<think>\nf\n</think>\n\n"
    assert one.flags == ()


def test_places_count_every_token_and_lengths_only_the_policys(byte_reader):
    one = encode(byte_reader, THREE)
    said = ["<think>a\n\nWait, b</think>call<|end|>", "call again<|end|>", "<think>\nf\n</think>\n\nyes"]
    lengths = [len(byte_reader.tokenizer.encode(text)) for text in said]
    assert [turn.end - turn.start for turn in one.turns] == lengths
    assert one.response_tokens == sum(lengths)
    assert one.environment_tokens == one.turns[-1].end - sum(lengths)
    assert one.text == "\n\n".join(said)
    (paragraph,) = (segment for segment in one.segments if segment.text == "f")
    assert (paragraph.start, paragraph.end) == (one.turns[2].start + 1, one.turns[2].start + 4)


def test_a_mask_says_the_same(byte_reader):
    one = encode(byte_reader, THREE)
    ids = masked(
        byte_reader,
        (1, "<think>a\n\nWait, b</think>call<|end|>"),
        (0, "\ntool: But <think>c\n\nd<|end|>\nassistant: "),
        (1, "call again<|end|>"),
        (0, "\nuser: e<|end|>\nassistant: "),
        (1, "<think>\nf\n</think>\n\nyes"),
        (0, "<|end|>\ntool: nobody reads this"),
    )
    _same(one, encode(byte_reader, ids))
    literal = [
        {"role": "assistant" if mask else "tool", "token_ids": byte_reader.tokenizer.encode(text).tolist()}
        for mask, text in (
            (1, "<think>a\n\nWait, b</think>call<|end|>"),
            (0, "\ntool: But <think>c\n\nd<|end|>\nassistant: "),
            (1, "call again<|end|>"),
            (0, "\nuser: e<|end|>\nassistant: "),
            (1, "<think>\nf\n</think>\n\nyes"),
        )
    ]
    _same(one, encode(byte_reader, Trajectory(turns=literal)))


def _same(one: EncodedTrajectory, other: EncodedTrajectory) -> None:
    for name in vars(one):
        left, right = getattr(one, name), getattr(other, name)
        if name == "turns":
            assert [(a.start, a.end) for a in left] == [(b.start, b.end) for b in right]
            left, right = ([array for a in each for array in (a.before, a.after)] for each in (left, right))
        if name == "policy":
            left, right = (
                {key: np.asarray(each).tolist() for key, each in vars(a).items()} for a in (left, right)
            )
        if isinstance(left, np.ndarray):
            assert left.tolist() == right.tolist(), name
        elif left and isinstance(left, list | tuple) and any(isinstance(each, np.ndarray) for each in left):
            assert [each if each is None else each.tolist() for each in left] == [
                each if each is None else each.tolist() for each in right
            ], name
        else:
            assert left == right, name


def test_mixed_ids_and_texts_end_a_turn_once(byte_reader):
    """What a policy wrote comes as ids, its end token with them; what the tool said comes as a message."""
    own = byte_reader.tokenizer.encode("<think>a</think>call<|end|>").tolist()
    mixed = Trajectory(
        turns=[
            {"role": "assistant", "token_ids": own},
            {"role": "tool", "content": "b"},
            {"role": "assistant", "content": "", "reasoning_content": "c"},
        ]
    )
    text = turns(("assistant", "<think>a</think>call"), ("tool", "b"), ("assistant", "<think>\nc"))
    _same(encode(byte_reader, text), encode(byte_reader, mixed))


def test_behind_a_prompt_of_text_turns_are_joined_as_they_are(byte_reader):
    literal = turns(("assistant", "<think>a</think>call"), ("tool", " -> b\n"), ("assistant", "yes"))
    one = encode(byte_reader, literal, prompt="Q:")
    assert byte_reader.tokenizer.decode(one.full) == "Q:<think>a</think>call -> b\nyes"


@pytest.mark.parametrize(
    ("said", "flags", "answer"),
    [
        (["call", "yes"], {"think_missing"}, "yes"),
        (["call", "<think>a</think>yes"], set(), "yes"),
        (["<think>a</think>call", "yes"], set(), "yes"),
        (["<think>a", "<think>a</think>yes"], {"think_unclosed"}, "yes"),
        (["<think>a</think>", "yes"], set(), "yes"),
        (["<think>a</think>call", ""], {"empty_answer"}, ""),
        (["<think></think>call", "<think>a</think>yes"], set(), "yes"),
        (["<think></think>call", "<think> </think>yes"], {"empty_think"}, "yes"),
        (["a</think>call", "b</think>yes"], {"think_unopened"}, "yes"),
    ],
)
def test_flags_are_what_the_turns_together_are(byte_reader, said, flags, answer):
    first, second = said
    one = encode(byte_reader, turns(("assistant", first), ("tool", "t"), ("assistant", second)))
    assert (set(one.flags), one.answer) == (flags, answer)


def test_a_thought_that_a_later_turn_closes_without_opening_it_is_opened(byte_reader):
    one = encode(byte_reader, turns(("assistant", "a</think>call"), ("tool", "t"), ("assistant", "b</think>yes")))
    start = "user: Q<|end|>\nassistant: <think>\n"
    later = start + "a</think>call<|end|>\ntool: t<|end|>\nassistant: <think>\n"
    assert shown(byte_reader, one) == [start, start + "a", later, later + "b"]


def test_a_trajectory_without_thoughts_where_none_is_required(byte_reader):
    rules = RewardConfig(think=ThinkConfig(mode="none"))
    one = encode(byte_reader, turns(("assistant", "call"), ("tool", "t"), ("assistant", "yes")), rules=rules)
    start = "user: Q<|end|>\nassistant: "
    second = start + "call<|end|>\ntool: t<|end|>\nassistant: <think>\n"
    assert byte_reader.tokenizer.decode(one.turns[-1].after) == second + "yes\n"
    assert byte_reader.tokenizer.decode(one.answer_thought) == start + "<think>\nyes\n"
    assert one.answer_only


def test_a_prompt_that_has_closed_the_thought_has_closed_it_in_every_turn(byte_reader):
    prompt = "Q:<think>\n\n</think>\n\n"
    one = encode(byte_reader, turns(("assistant", "call"), ("tool", "t"), ("assistant", "yes")), prompt=prompt)
    assert shown(byte_reader, one) == [prompt, prompt + "callt"]


def test_all_turns_share_the_bound_on_segments(byte_reader):
    rules = RewardConfig(segment=SegmentConfig(min_tokens=0, max_segments=3))
    thought = "<think>a\n\nb</think>c"
    said = [("assistant", thought), ("tool", "t")] * 4 + [("assistant", thought)]
    one = encode(byte_reader, turns(*said), rules=rules)
    assert [segment.text for segment in one.segments if not segment.between] == ["a", "b", *["a\n\nb"] * 4]


@pytest.mark.parametrize(
    ("trajectory", "field", "words"),
    [
        (Trajectory(response_token_ids=[65, 66], response_mask=[1]), "response_mask", "1 numbers .* has 2"),
        (Trajectory(response_token_ids=[65, 66], response_mask=[0, 0]), "response_mask", "no 1"),
        (Trajectory(response_token_ids=[65, 66], response_mask=[0, 1]), "response_mask", "begins with 0"),
        (Trajectory(response_token_ids=[65] * 1000, response_mask=[1, 0] * 500), "response_mask", "500 turns"),
        (turns(("tool", "a"), ("assistant", "b")), "turns.0.role", "first turn is the tool's"),
        (turns(("assistant", ""), ("tool", "b")), "turns", "no tokens"),
        (
            Trajectory(turns=[{"role": "assistant", "token_ids": [999]}]),
            "turns.0.token_ids",
            "999 at position 0",
        ),
        (
            Trajectory(
                turns=[
                    {"role": "assistant", "content": "a"},
                    {"role": "tool", "content": "b"},
                    {"role": "tool", "token_ids": [65]},
                    {"role": "assistant", "content": "c"},
                ]
            ),
            "turns.1",
            "some have not",
        ),
        (
            Trajectory(
                turns=[{"role": "assistant", "content": "a", "tool_calls": [{"function": {"name": "look"}}]}]
            ),
            "turns.0",
            "does not write the tool calls",
        ),
    ],
)
def test_a_bad_trajectory_is_named_and_spoils_no_other(byte_reader, trajectory, field, words):
    found = encoding(byte_reader, trajectory, THREE)
    assert found.group is not None
    assert len(found.group.trajectories) == 1
    error = found.errors[0]
    assert error.field == f"groups.0.trajectories.0.{field}"
    with pytest.raises(type(error), match=words):
        raise error


def test_the_mode_of_the_released_code_reads_one_response(byte_reader):
    rules = RewardConfig(context=ContextConfig(mode="text"))
    found = encoding(byte_reader, THREE, rules=rules)
    assert found.errors[0].field == "groups.0.trajectories.0.turns"


START = "user: Q<|end|>\nassistant: "
MARKS = ["<think>", "</think>", "<|end|>", "\n\n", "等", "a", "b", " ", "\n", "Wait"]
PIECES = st.lists(st.sampled_from(MARKS), min_size=1, max_size=8).map("".join)


@settings(max_examples=200)
@given(st.lists(st.tuples(PIECES, PIECES), min_size=1, max_size=4))
def test_contexts_are_prefixes_of_one_path_but_for_opened_thoughts(rounds):
    """Whatever is written: boundaries rise, and no token of the environment is in a segment."""
    pieces = [piece for own, said in rounds for piece in ((1, own), (0, said))]
    trajectory = masked(READER, *pieces)
    one = encode(READER, trajectory)
    mask = np.array(trajectory.response_mask)
    for segment in one.segments:
        assert mask[segment.start : segment.end].all()
    ends = [segment.end for segment in one.segments]
    assert ends == sorted(ends)
    assert len(one.contexts) == len(one.segments) + 1 == len(one.unmarked) + 1
    assert one.response_tokens == mask.sum()
    assert [(turn.start, turn.end) for turn in one.turns] == _runs(mask)
    opening = READER.tokenizer.encode("<think>\n").tolist()
    whole = [*one.turns[0].before[:0].tolist(), *trajectory.response_token_ids]
    for context, end in zip(one.contexts[1:], ends, strict=True):
        read = context.tolist()[len(READER.tokenizer.encode(START)) :]
        assert _without(read, opening, whole[:end])


def _runs(mask) -> list[tuple[int, int]]:
    borders = np.flatnonzero(np.diff(mask, prepend=0, append=0)).tolist()
    return [*zip(borders[::2], borders[1::2], strict=True)]


def _without(read: list[int], opening: list[int], literal: list[int]) -> bool:
    """Whether `read` is `literal` with `opening` put in at some places."""
    at = 0
    while at < len(read) and literal:
        if read[at] == literal[0]:
            if read[at : at + 2] == opening and _without(read[at + 2 :], opening, literal):
                return True
            at, literal = at + 1, literal[1:]
        elif read[at : at + 2] == opening:
            at += 2
        else:
            return False
    return not literal and read[at:] in ([], opening)


def test_turns_that_are_too_long_are_refused_before_they_are_copied(byte_reader, monkeypatch):
    def never(*_: object, **__: object) -> None:
        raise AssertionError("encoded what does not fit")

    monkeypatch.setattr(encode_module, "encode_turns", never)
    one = Trajectory(response_token_ids=[97] * 2510, response_mask=[1] * 2000 + [0, 1] * 255)
    error = encoding(replace(byte_reader, max_context=2000), one).errors[0]
    assert isinstance(error, ContextTooLong)
    assert error.field == "groups.0.trajectories.0.response_mask"
    assert "response 2510" in error.message


def test_padding_behind_the_last_turn_takes_no_room(byte_reader):
    end = byte_reader.tokenizer.encode_inside("<|end|>").tolist()
    short = masked(byte_reader, (1, "a"), (0, "b"), (1, "c"))
    padded = Trajectory(
        response_token_ids=short.response_token_ids + end * 99, response_mask=short.response_mask + [1] * 99
    )
    reader = replace(byte_reader, max_context=60)
    assert np.array_equal(encode(reader, padded).full, encode(reader, short).full)
