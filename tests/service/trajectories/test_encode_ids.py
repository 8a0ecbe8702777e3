from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from opera_client.wire import Group, Trajectory
from opera_service.rewards.config import RewardConfig
from opera_service.trajectories.byte_tokenizer import END_ID
from opera_service.trajectories.encode import encode_group
from opera_service.trajectories.encoded import EncodedGroup, EncodedTrajectory
from opera_service.trajectories.encoding_config import ContextConfig, SegmentConfig, ThinkConfig
from opera_service.trajectories.field_tokenizer import FieldTokenizer
from opera_service.trajectories.hf_tokenizer import HFTokenizer

EVERY = RewardConfig(segment=SegmentConfig(min_tokens=0, max_segments=None))


def encode(
    fields: FieldTokenizer, response: str | list[int], *, prompt: str = "Q:", rules: RewardConfig = EVERY
) -> tuple[EncodedGroup, EncodedTrajectory]:
    given = {"response": response} if isinstance(response, str) else {"response_token_ids": response}
    group = Group(prompt=prompt, reference="R", trajectories=[Trajectory(**given)])
    encoding = encode_group(group, 0, fields, rules)
    assert encoding.errors == {}
    assert encoding.group is not None
    return encoding.group, encoding.group.trajectories[0]


def shown(fields: FieldTokenizer, trajectory: EncodedTrajectory) -> list[str]:
    return [fields.tokenizer.decode(context) for context in trajectory.contexts]


def test_contexts_end_just_after_the_separator_run(byte_reader):
    group, one = encode(byte_reader, "<think>\na\n\n\n\nWait, b\r\n\r\nc\n</think>\n\nyes<|end|>")
    assert shown(byte_reader, one) == [
        "Q:<think>\n",
        "Q:<think>\na\n\n\n\n",
        "Q:<think>\na\n\n\n\nWait, b\r\n\r\n",
        "Q:<think>\na\n\n\n\nWait, b\r\n\r\nc\n",
    ]
    assert [(s.start, s.end, s.text, s.reflective) for s in one.segments] == [
        (1, 7, "a", False),
        (7, 18, "Wait, b", True),
        (18, 20, "c", False),
    ]
    assert one.contexts[0] is group.initial
    assert byte_reader.tokenizer.decode(one.full) == "Q:<think>\na\n\n\n\nWait, b\r\n\r\nc\n</think>\n\nyes"
    assert byte_reader.tokenizer.decode(one.answer_context).endswith("</think>\n\n")
    assert byte_reader.tokenizer.decode(one.answer_ids) == "yes<|end|>"
    assert (one.thought, one.answer, one.flags) == ("\na\n\n\n\nWait, b\r\n\r\nc\n", "yes", ())
    assert one.response_tokens == 27


def test_a_prompt_that_opens_the_think_block(byte_reader):
    group, one = encode(byte_reader, "a\n\nb</think>yes", prompt="Q:<think>\n")
    assert group.initial.tolist() == group.prompt_ids.tolist()
    assert shown(byte_reader, one) == ["Q:<think>\n", "Q:<think>\na\n\n", "Q:<think>\na\n\nb"]
    assert one.segments[0].start == 0
    assert one.answer == "yes"


def test_no_think_block(byte_reader):
    _, one = encode(byte_reader, "  yes")
    assert shown(byte_reader, one) == ["Q:<think>\n"]
    assert (one.segments, one.thought, one.answer, one.flags) == ((), "", "yes", ("think_missing",))
    assert byte_reader.tokenizer.decode(one.answer_context) == "Q:  "
    assert byte_reader.tokenizer.decode(one.answer_ids) == "yes"


def test_an_unclosed_block_ends_before_the_end_of_turn(byte_reader):
    _, one = encode(byte_reader, "<think>a\n\nb<|end|><|end|>")
    assert shown(byte_reader, one)[-1] == "Q:<think>a\n\nb"
    assert set(one.flags) == {"think_unclosed", "empty_answer"}
    assert one.answer_ids.tolist() == []
    assert one.answer_context.tolist() == one.full.tolist()
    assert (one.answer, one.thought) == ("", "a\n\nb")


def test_an_empty_block(byte_reader):
    _, one = encode(byte_reader, "<think>\n\n</think>\n\nyes")
    assert len(one.contexts) == 1
    assert one.flags == ("empty_think",)
    assert byte_reader.tokenizer.decode(one.answer_ids) == "yes"


def test_a_response_of_only_the_end_of_turn(byte_reader):
    _, one = encode(byte_reader, [END_ID])
    assert set(one.flags) == {"think_missing", "empty_answer"}
    assert byte_reader.tokenizer.decode(one.full) == "Q:"
    assert one.answer_ids.tolist() == []


def test_of_two_blocks_the_first_counts(byte_reader):
    _, one = encode(byte_reader, "<think>a</think>b<think>c</think>d")
    assert shown(byte_reader, one)[-1] == "Q:<think>a"
    assert (one.answer, one.flags) == ("b<think>c</think>d", ("think_repeated",))


@pytest.mark.parametrize("score_end", [True, False])
def test_the_answer_keeps_one_end_of_turn_when_the_references_is_priced(byte_reader, score_end):
    rules = RewardConfig(context=ContextConfig(score_end=score_end))
    _, one = encode(byte_reader, "<think>a</think>b<|end|><|end|>", rules=rules)
    assert one.answer_ids.tolist() == [ord("b")] + [END_ID] * score_end
    assert one.full[-1] == ord("b")


def test_a_tag_of_several_tokens_is_in_no_segment_and_in_no_answer(llama_like):
    fields = FieldTokenizer(llama_like, 450, 1000)
    response = "<think>\nWait, x.\n\nBut y.</think> the"
    ids = llama_like.encode(response).tolist()
    pieces = [llama_like.decode([token]) for token in ids]
    assert pieces[:2] == ["<think", ">\n"]
    _, one = encode(fields, response)
    assert shown(fields, one) == [
        "<s>Q:<think>\n",
        "<s>Q:<think>\nWait, x.\n\n",
        "<s>Q:<think>\nWait, x.\n\nBut y.",
    ]
    assert one.segments[0].start == 2
    assert llama_like.decode(one.answer_context) == "<s>Q:<think>\nWait, x.\n\nBut y.</think>"
    assert llama_like.decode(one.answer_ids) == " the", "the space is in the token of the answer's first letter"


def test_tokens_that_straddle_the_tags():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = ["x<think>aĊĊb", ".</", "think>y", "es"]
    bpe = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(alphabet + pieces)}, merges=[]))
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = HFTokenizer(PreTrainedTokenizerFast(tokenizer_object=bpe))
    _, one = encode(FieldTokenizer(tokenizer, 260, 1000), [256, 257, 258, 259])
    assert one.text == "x<think>a\n\nb.</think>yes"
    assert (one.thought, one.answer) == ("a\n\nb.", "yes")
    assert one.segments == (), "the first token also opens the block, the second also closes it"
    assert tokenizer.decode(one.answer_ids) == "es", "the first letter shares a token with the tag"
    assert tokenizer.decode(one.answer_context) == "Q:x<think>a\n\nb.</think>y"


def test_emoji_split_over_tokens_and_broken_bytes(qwen_like, qwen_reader):
    ids = qwen_like.encode("<think>😀\n\n").tolist()
    broken = qwen_like.encode("é").tolist()[:1]
    ids += [*broken, *qwen_like.encode(" x.\n\nWait</think>é").tolist()]
    _, one = encode(qwen_reader, ids)
    assert [s.text for s in one.segments] == ["😀", "\N{REPLACEMENT CHARACTER} x.", "Wait"]
    assert qwen_like.decode(one.contexts[1]) == "Q:<think>😀\n\n"
    assert one.contexts[2].tolist() == one.full[: len(one.contexts[2])].tolist()
    assert one.answer == "é"


def test_ids_are_scored_and_text_is_shown_when_both_are_given(byte_reader):
    group = Group(
        prompt="Q:", reference="R",
        trajectories=[Trajectory(response="shown", response_token_ids=[256, 97, 257, 98])],
    )  # fmt: skip
    one = encode_group(group, 0, byte_reader, EVERY).group.trajectories[0]
    assert one.text == "shown"
    assert one.scored_text == "<think>a</think>b"
    assert (one.thought, one.answer) == ("a", "b")
    assert one.full.tolist() == [81, 58, 256, 97, 257, 98]


@pytest.mark.parametrize("shown", ["<think>a</think>b<|end|>", " <think>a</think>b\n"])
def test_a_text_that_says_what_the_ids_say_is_the_scored_one(byte_reader, shown):
    ids = [256, 97, 257, 98, END_ID]
    group = Group(prompt="Q:", reference="R", trajectories=[Trajectory(response=shown, response_token_ids=ids)])
    one = encode_group(group, 0, byte_reader, EVERY).group.trajectories[0]
    assert one.scored_text == one.text == shown


def test_ids_alone_are_decoded_for_show(byte_reader):
    _, one = encode(byte_reader, [256, 97, 257, 98, END_ID])
    assert one.text == "<think>a</think>b<|end|>"


def test_contexts_share_one_array(byte_reader):
    _, one = encode(byte_reader, "<think>a\n\nb\n\nc</think>d")
    assert all(np.shares_memory(context, one.full) for context in (*one.contexts[1:], one.answer_context))


PIECES = [
    "<think>",
    "</think>",
    "Wait",
    ", a",
    ".\n\n",
    "\n",
    "\r\n",
    "\n \n",
    "😀",
    "等",
    " ",
    "But b.",
    "<|im_end|>",
]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    response=st.lists(st.sampled_from(PIECES), min_size=1, max_size=25),
    opened=st.booleans(),
    min_tokens=st.integers(0, 6),
    max_segments=st.none() | st.integers(1, 3),
    data=st.data(),
)
def test_contexts_are_literal_prefixes_whatever_the_ids(
    qwen_like, qwen_reader, response, opened, min_tokens, max_segments, data
):
    # Encoding piece by piece gives ids that no tokenizer would choose for the whole text; stray bytes break it.
    ids = [int(token) for piece in response for token in qwen_like.encode(piece)]
    for _ in range(data.draw(st.integers(0, 3))):
        ids.insert(data.draw(st.integers(0, len(ids))), data.draw(st.integers(3, 258)))
    rules = RewardConfig(segment=SegmentConfig(min_tokens=min_tokens, max_segments=max_segments))
    group, one = encode(qwen_reader, ids, prompt="Q<think>\n" if opened else "Q", rules=rules)

    start = group.initial if "think_unopened" in one.flags else group.prompt_ids
    path = [*start.tolist(), *ids]
    before = len(start)
    assert len(one.contexts) == len(one.segments) + 1
    for segment, context in zip(one.segments, one.contexts[1:], strict=True):
        assert context.tolist() == path[: before + segment.end]
    bounds = [(segment.start, segment.end) for segment in one.segments]
    assert all(start < end for start, end in bounds)
    assert all(left[1] == right[0] for left, right in pairwise(bounds))
    assert one.full.tolist() == path[: len(one.full)]
    assert one.answer_context.tolist() == path[: len(one.answer_context)]
    assert len(one.answer_context) <= len(one.full)
    assert not bounds or before + bounds[-1][1] <= len(one.answer_context)
    assert len(one.full) + 1 >= len(one.answer_context) + len(one.answer_ids)

    # Segments, with what comes before and after them, reproduce the response.
    start, end = (bounds[0][0], bounds[-1][1]) if bounds else (0, 0)
    inside = [token for left, right in bounds for token in ids[left:right]]
    assert ids[:start] + inside + ids[end:] == ids
    thought = qwen_like.to_bytes(inside)
    assert b"</think>" not in thought
    assert not one.thought.strip() or thought.decode(errors="replace").strip() == one.thought.strip()


@pytest.mark.parametrize(
    "tail", ["<|im_end|>", "<|endoftext|>", "<|im_end|>\n<|endoftext|><|pad|><|pad|>", "<|pad|>"]
)
def test_no_end_and_no_padding_stands_in_a_context_or_makes_an_answer(two_ends, tail):
    fields = FieldTokenizer(two_ends, 512, 1000)
    _, whole = encode(fields, "<think>\nWait, x.\n</think>\n\nthe answer" + tail)
    assert two_ends.decode(whole.full).endswith("the answer")
    assert whole.answer == "the answer"
    kept = tail.partition(">")[0] + ">" if tail != "<|pad|>" else ""
    assert two_ends.decode(whole.answer_ids) == "the answer" + kept
    _, empty = encode(fields, "<think>\nWait, x.\n</think>\n\n" + tail)
    assert {"empty_answer"} == set(empty.flags)
    assert len(empty.answer_ids) == 0


def test_an_answer_of_special_tokens_is_empty(two_ends):
    _, one = encode(FieldTokenizer(two_ends, 512, 1000), "<think>\nx\n</think>\n\n<|im_start|>")
    assert "empty_answer" in one.flags


def test_text_behind_an_end_is_said_to_be_there(two_ends):
    _, one = encode(
        FieldTokenizer(two_ends, 512, 1000), "<think>\nx\n</think>\n\nyes<|im_end|>\n<|im_start|>user\nno"
    )
    assert one.flags == ("text_after_end",)


def test_a_thought_that_is_only_closed_follows_an_opened_block(byte_reader):
    _, one = encode(byte_reader, "Wait, x is two.\n\nBut y is three.\n</think>\n\nyes")
    assert one.flags == ("think_unopened",)
    assert shown(byte_reader, one) == [
        "Q:<think>\n",
        "Q:<think>\nWait, x is two.\n\n",
        "Q:<think>\nWait, x is two.\n\nBut y is three.\n",
    ]
    assert byte_reader.tokenizer.decode(one.full).endswith("three.\n</think>\n\nyes")
    assert one.segments[0].start == 0


def test_a_thought_that_the_prompt_closed_leaves_an_answer(byte_reader):
    group, one = encode(byte_reader, "yes", prompt="Q:<think>\n\n</think>\n\n")
    assert one.flags == ("think_in_prompt",)
    assert group.initial.tolist() == group.prompt_ids.tolist()
    assert len(group.bridge) == 0
    assert (one.answer, one.segments) == ("yes", ())


def test_text_before_the_block_is_known(byte_reader):
    _, one = encode(byte_reader, "Sure, it is 4. <think>\nWait, x is two.\n</think>\n\nyes")
    assert one.before == "Sure, it is 4."


def test_other_tags_bring_their_opening_and_bridge(byte_reader):
    rules = RewardConfig(think=ThinkConfig(open="[T]", close="[/T]"))
    group, one = encode(byte_reader, "[T]Wait, x is two.[/T]yes", rules=rules)
    decode = byte_reader.tokenizer.decode
    assert (decode(group.initial), decode(group.bridge)) == ("Q:[T]\n", "[/T]\n\n")
    assert (one.thought, one.answer, one.flags) == ("Wait, x is two.", "yes", ())
    own = RewardConfig(think=rules.think, context=ContextConfig(opening="", bridge="|"))
    group, _ = encode(byte_reader, "[T]a[/T]b", rules=own)
    assert (decode(group.initial), decode(group.bridge)) == ("Q:", "|")


@pytest.mark.parametrize("tags", [{"open": "[T]"}, {"close": "[/T]"}])
def test_one_tag_alone_is_refused(tags):
    with pytest.raises(ValueError, match="both"):
        ThinkConfig(**tags)
