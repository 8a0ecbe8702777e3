"""Mode `text` against the released procedure, written out by hand on the tokenizer itself."""

import re
import time
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opera_client.errors import TokenOutOfVocabulary
from opera_client.wire import Group, Trajectory
from opera_service.rewards.config import RewardConfig
from opera_service.trajectories.encode import encode_group
from opera_service.trajectories.encoded import EncodedGroup
from opera_service.trajectories.encoding_config import (
    MOST_SEGMENTS,
    ContextConfig,
    ReflectionConfig,
    SegmentConfig,
    ThinkConfig,
)
from opera_service.trajectories.field_tokenizer import FieldTokenizer
from opera_service.trajectories.hf_tokenizer import HFTokenizer
from opera_service.trajectories.patience import GivenUp, while_wanted

PAPER = RewardConfig(
    segment=SegmentConfig(min_tokens=0, max_segments=None),
    context=ContextConfig(mode="text", bridge="", reference_part="full", score_end=False, controls=False),
    reflection_words=ReflectionConfig(languages=("authors",), match="substring", where="anywhere"),
)
MESSY = (
    "<think>\n\n\n  First, butter.  \n\n\n\nWait, é😀.\n \nstill\n\n   \n\nlast \n\n\n</think>\n\n"
    "yes <think>no</think><|im_end|>"
)


def encode(tokenizer: HFTokenizer, group: Group) -> EncodedGroup:
    encoding = encode_group(group, 0, FieldTokenizer(tokenizer, 600, 100_000), PAPER)
    assert encoding.errors == {}
    assert encoding.group is not None
    return encoding.group


def released(tokenizer: HFTokenizer, prompt_ids: list[int], response_ids: list[int]) -> dict[str, object]:
    """Decode without special tokens, split, join, encode with the tokenizer's defaults."""
    backend = tokenizer.loaded.backend_tokenizer
    prompt, response = backend.decode(prompt_ids), backend.decode(response_ids)
    block = re.search(r"<think>(.*?)</think>", response, re.DOTALL)
    segments = [part.strip() for part in block.group(1).strip().split("\n\n")] if block else []
    segments = [part for part in segments if part]
    texts = [
        prompt + "<think>" + "".join(part + "\n\n" for part in segments[:k]) for k in range(len(segments) + 1)
    ]
    words = ("But", "Wait", "Hmm", "However", "Wait a minute")
    return {
        "segments": segments,
        "reflective": [any(word.lower() in part.lower() for word in words) for part in segments],
        "contexts": [backend.encode(text).ids for text in texts],
        "full": backend.encode(prompt + response).ids,
    }


@pytest.mark.parametrize("name", ["qwen_like", "llama_like"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    response=st.lists(
        st.sampled_from(
            [
                "<think>",
                "</think>",
                "Wait",
                "butter",
                "\n",
                "\n\n",
                "\r\n",
                " ",
                "\u3000",
                "é😀",
                "等",
                "<|im_end|>",
                "</s>",
            ]
        ),
        min_size=1,
        max_size=20,
    ),
    opened=st.booleans(),
)
def test_everything_equals_the_released_procedure(name, request, response, opened):
    tokenizer = request.getfixturevalue(name)
    prompt_ids = tokenizer.encode("<|im_start|>user\nWhat?<|im_end|>\n" + "<think>\n" * opened).tolist()
    ids = [int(token) for piece in response for token in tokenizer.encode(piece)]
    group = encode(
        tokenizer,
        Group(prompt_token_ids=prompt_ids, reference="R", trajectories=[Trajectory(response_token_ids=ids)]),
    )
    expected = released(tokenizer, prompt_ids, ids)
    one = group.trajectories[0]
    assert [segment.text for segment in one.segments] == expected["segments"]
    assert [segment.reflective for segment in one.segments] == expected["reflective"]
    assert [context.tolist() for context in one.contexts] == expected["contexts"]
    assert one.full.tolist() == expected["full"]
    assert group.initial.tolist() == expected["contexts"][0]


def test_a_messy_response_of_a_chat(qwen_like):
    messages = [{"role": "user", "content": "What?"}]
    group = encode(qwen_like, Group(prompt=messages, reference="R", trajectories=[Trajectory(response=MESSY)]))
    one = group.trajectories[0]
    start = "user\nWhat?\nassistant\n<think>"
    assert [qwen_like.decode(context) for context in one.contexts] == [
        start,
        start + "First, butter.\n\n",
        start + "First, butter.\n\nWait, é😀.\n \nstill\n\n",
        start + "First, butter.\n\nWait, é😀.\n \nstill\n\nlast\n\n",
    ]
    assert [segment.reflective for segment in one.segments] == [True, True, False]
    assert qwen_like.decode(one.full) == "user\nWhat?\nassistant\n" + MESSY.removesuffix("<|im_end|>")
    assert qwen_like.decode(one.answer_ids) == one.answer == "yes <think>no</think>"
    assert qwen_like.decode(one.answer_context).endswith("</think>\n\n")
    assert one.flags == ("think_repeated",)
    assert group.prompt == "user\nWhat?\nassistant\n"


def test_segments_are_placed_in_the_responses_own_tokens(qwen_like):
    ids = qwen_like.encode(MESSY)
    group = encode(
        qwen_like, Group(prompt="Q", reference="R", trajectories=[Trajectory(response_token_ids=ids.tolist())])
    )
    spans = [(segment.start, segment.end, segment.text) for segment in group.trajectories[0].segments]
    assert all(text in qwen_like.decode(ids[start:end]) for start, end, text in spans)
    assert all("</think>" not in qwen_like.decode(ids[start:end]) for start, end, _ in spans)
    assert all(left[1] <= right[0] for left, right in pairwise(spans))


def test_the_reference_is_alone_and_whole_without_a_start_token(llama_like):
    group = encode(
        llama_like, Group(prompt="Q", reference="<think>r</think>R", trajectories=[Trajectory(response="x")])
    )
    assert group.reference_ids.tolist() == llama_like.encode("<think>r</think>R").tolist()
    assert group.bridge.tolist() == []
    assert group.initial.tolist() == [0, *llama_like.encode("Q<think>")], "a context starts as the model expects"


def test_an_unclosed_or_prefilled_block_has_no_segments_here(qwen_like):
    for prompt, response in [("Q", "<think>a\n\nb"), ("Q<think>\n", "a\n\nb</think>yes")]:
        group = encode(
            qwen_like, Group(prompt=prompt, reference="R", trajectories=[Trajectory(response=response)])
        )
        assert group.trajectories[0].segments == ()
        assert len(group.trajectories[0].contexts) == 1
        assert qwen_like.decode(group.initial) == prompt + "<think>"


def test_ids_that_come_up_only_when_tokenised_again_must_be_the_models_too(qwen_like):
    letters = [int(qwen_like.encode(letter)[0]) for letter in "Wait"]
    assert max(letters) < 260 <= int(qwen_like.encode("Wait").max())
    rules = PAPER.model_copy(update={"think": ThinkConfig(open="[", close="]")})
    group = Group(prompt="Q", reference="R", trajectories=[Trajectory(response_token_ids=letters)])
    error = encode_group(group, 0, FieldTokenizer(qwen_like, 260, 100), rules).errors[0]
    assert isinstance(error, TokenOutOfVocabulary)
    assert error.field == "groups.0.trajectories.0.response_token_ids"


@pytest.mark.parametrize(
    ("most", "shown"), [(3, ["p0", "p1", "p2\n\np3\n\np4"]), (None, [f"p{n}" for n in range(5)])]
)
def test_paragraphs_past_the_most_are_the_last_one(qwen_like, most, shown):
    rules = PAPER.model_copy(update={"segment": SegmentConfig(max_segments=most, min_tokens=0)})
    response = "<think>" + "\n\n".join(f"p{n}" for n in range(5)) + "</think>yes"
    group = Group(prompt="Q", reference="R", trajectories=[Trajectory(response=response)])
    one = encode_group(group, 0, FieldTokenizer(qwen_like, 600, 100_000), rules).group.trajectories[0]
    assert [segment.text for segment in one.segments] == shown
    whole = "Q<think>" + "".join(f"p{n}\n\n" for n in range(5))
    assert qwen_like.decode(one.contexts[-1]) == whole


def test_thousands_of_paragraphs_are_bounded(qwen_like):
    response = "<think>" + "a\n\n" * 9000 + "</think>yes"
    group = Group(prompt="Q", reference="R", trajectories=[Trajectory(response=response)])
    started = time.process_time()
    one = encode_group(group, 0, FieldTokenizer(qwen_like, 600, 100_000), PAPER).group.trajectories[0]
    assert time.process_time() - started < 30  # one second on a quiet machine; minutes before
    assert len(one.segments) == MOST_SEGMENTS
    assert qwen_like.decode(one.contexts[-1]) == "Q<think>" + "a\n\n" * 9000


def test_work_that_nobody_waits_for_ends_between_paragraphs(qwen_like):
    answers = iter([True] * 4)
    group = Group(
        prompt="Q", reference="R", trajectories=[Trajectory(response="<think>" + "a\n\n" * 99 + "</think>")]
    )
    with pytest.raises(GivenUp), while_wanted(lambda: next(answers, False)):
        encode_group(group, 0, FieldTokenizer(qwen_like, 600, 100_000), PAPER)
    assert list(answers) == []


def test_the_text_of_other_ids_is_shown_and_not_scored(qwen_like):
    ids = qwen_like.encode("said").tolist()
    group = Group(prompt="Q", reference="R", trajectories=[Trajectory(response="shown", response_token_ids=ids)])
    one = encode(qwen_like, group).trajectories[0]
    assert (one.text, one.scored_text) == ("shown", "said")
