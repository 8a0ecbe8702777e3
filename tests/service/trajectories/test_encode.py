import pytest

from opera_client.errors import (
    ContextTooLong,
    EmptyContext,
    EmptyReference,
    EmptyResponse,
    InvalidRequest,
    OperaError,
    TokenOutOfVocabulary,
)
from opera_client.wire import Group, Trajectory
from opera_service.rewards.config import RewardConfig
from opera_service.trajectories.byte_tokenizer import END_ID, ByteTokenizer
from opera_service.trajectories.encode import encode_group
from opera_service.trajectories.encoded import EncodedGroup
from opera_service.trajectories.encoding_config import ContextConfig
from opera_service.trajectories.field_tokenizer import FieldTokenizer

RULES = RewardConfig()
TEXT = RewardConfig(context=ContextConfig(mode="text"))


def group_of(*responses: str, **fields: object) -> Group:
    given = {"prompt": "Q:", "reference": "R", "trajectories": [Trajectory(response=text) for text in responses]}
    return Group.model_validate(given | fields)


def encoded(group: Group, fields: FieldTokenizer, rules: RewardConfig = RULES) -> EncodedGroup:
    encoding = encode_group(group, 0, fields, rules)
    assert encoding.errors == {}
    assert encoding.group is not None
    return encoding.group


def errors(
    group: Group, fields: FieldTokenizer, rules: RewardConfig = RULES, index: int = 0
) -> dict[int, OperaError]:
    return encode_group(group, index, fields, rules).errors


def test_names_default_to_positions(byte_reader):
    group = group_of("a", "b")
    encoding = encode_group(group, 3, byte_reader, RULES)
    assert encoding.group.id == "3"
    assert [one.id for one in encoding.group.trajectories] == ["0", "1"]
    named = group_of(group_id="q", task="math", trajectories=[Trajectory(id="x", response="a")])
    assert (encoded(named, byte_reader).id, encoded(named, byte_reader).task) == ("q", "math")
    assert encoded(named, byte_reader).trajectories[0].id == "x"
    assert encoded(named, byte_reader).trajectories[0].outcome is None


@pytest.mark.parametrize("rules", [RULES, TEXT])
@pytest.mark.parametrize(
    ("prompt", "flagged"),
    [("Q:", False), (" Q:\n", False), ("R:", True), (None, False), ([{"role": "user", "content": "R:"}], False)],
)
def test_a_prompt_whose_text_is_not_what_its_ids_say_is_flagged(byte_reader, rules, prompt, flagged):
    given = group_of("a", "b", prompt=prompt, prompt_token_ids=byte_reader.tokenizer.encode("Q:").tolist())
    found = encoded(given, byte_reader, rules)
    assert found.prompt == "Q:"
    assert {"prompt_text_ids_differ" in one.flags for one in found.trajectories} == {flagged}


def test_the_initial_context_and_the_bridge_are_fixed_ids(byte_reader):
    group = encoded(group_of("a"), byte_reader)
    decode = byte_reader.tokenizer.decode
    assert decode(group.initial) == "Q:<think>\n"
    assert decode(group.bridge) == "</think>\n\n"
    assert decode(group.reference_ids) == "R<|end|>"
    assert group.prompt == "Q:"


def test_prompts_as_messages_text_and_ids_are_the_same(byte_reader):
    messages = [{"role": "user", "content": "hi"}]
    text = "user: hi<|end|>\nassistant: "
    ids = ByteTokenizer().encode(text).tolist()
    prompts = [{"prompt": messages}, {"prompt": text}, {"prompt": None, "prompt_token_ids": ids}]
    found = [encoded(group_of("a", **prompt), byte_reader).prompt_ids.tolist() for prompt in prompts]
    assert found == [ids, ids, ids]


def test_prompt_ids_come_before_messages(byte_reader):
    both = group_of("a", prompt=[{"role": "user", "content": "hi"}], prompt_token_ids=[1, 2])
    assert encoded(both, byte_reader).prompt_ids.tolist() == [1, 2]


def test_a_bad_trajectory_spoils_no_other(byte_reader):
    group = Group(
        prompt="Q", reference="R",
        trajectories=[
            Trajectory(id="ok", response="<think>a</think>b"),
            Trajectory(response=""),
            Trajectory(response_token_ids=[]),
            Trajectory(response_token_ids=[1, 259, 7]),
            Trajectory(id="fine", response_token_ids=[98]),
        ],
    )  # fmt: skip
    encoding = encode_group(group, 2, byte_reader, RULES)
    assert [one.id for one in encoding.group.trajectories] == ["ok", "fine"]
    assert {i: (type(error), error.field) for i, error in encoding.errors.items()} == {
        1: (EmptyResponse, "groups.2.trajectories.1.response"),
        2: (EmptyResponse, "groups.2.trajectories.2.response_token_ids"),
        3: (TokenOutOfVocabulary, "groups.2.trajectories.3.response_token_ids"),
    }
    assert "token id 259 at position 1" in encoding.errors[3].message
    assert "vocabulary of 259" in encoding.errors[3].message


@pytest.mark.parametrize("rules", [RULES, TEXT], ids=["ids", "text"])
@pytest.mark.parametrize(
    ("fields", "kind", "field"),
    [
        ({"prompt": ""}, EmptyContext, "groups.1.prompt"),
        ({"prompt": None, "prompt_token_ids": []}, EmptyContext, "groups.1.prompt_token_ids"),
        ({"prompt_token_ids": [400]}, TokenOutOfVocabulary, "groups.1.prompt_token_ids"),
        ({"reference": " \n"}, EmptyReference, "groups.1.reference"),
        ({"reference_token_ids": []}, EmptyReference, "groups.1.reference_token_ids"),
        ({"reference_token_ids": [END_ID]}, EmptyReference, "groups.1.reference_token_ids"),
        ({"reference_token_ids": [400]}, TokenOutOfVocabulary, "groups.1.reference_token_ids"),
        ({"reference": "<think>a"}, EmptyReference, "groups.1.reference"),
    ],
)
def test_a_bad_prompt_or_reference_is_every_trajectorys_error(byte_reader, rules, fields, kind, field):
    encoding = encode_group(group_of("a", "b", **fields), 1, byte_reader, rules)
    assert encoding.group is None
    assert [(type(error), error.field) for error in encoding.errors.values()] == [(kind, field)] * 2


def test_a_prompt_of_special_tokens_only_is_empty_in_text_mode(byte_reader):
    assert isinstance(errors(group_of("a", prompt="<|end|>"), byte_reader, TEXT)[0], EmptyContext)


def test_messages_the_template_refuses(llama_like):
    group = group_of("a", prompt=[{"role": "user", "content": "hi"}])
    error = errors(group, FieldTokenizer(llama_like, 500, 1000))[0]
    assert isinstance(error, InvalidRequest)
    assert error.field == "groups.0.prompt"


@pytest.mark.parametrize("mode", ["ids", "text"])
def test_the_longest_context_with_bridge_and_reference_must_fit(mode):
    tokenizer = ByteTokenizer()
    rules = RewardConfig(context=ContextConfig(mode=mode, bridge="\n\n"))
    # prompt 2, response 10, bridge 2, reference and end of turn 2
    group = group_of("<think>ab\n\nc</think>def")
    assert len(tokenizer.encode(group.trajectories[0].response)) == 10
    assert errors(group, FieldTokenizer(tokenizer, 259, 16), rules) == {}
    error = errors(group, FieldTokenizer(tokenizer, 259, 15), rules)[0]
    assert isinstance(error, ContextTooLong)
    assert error.field == "groups.0.trajectories.0.response"
    assert "prompt 2 + response 10 + bridge 2 + reference 2 = 16 tokens exceed the model's 15" in error.message


def test_a_prompt_and_reference_that_do_not_fit_alone(byte_reader):
    error = errors(group_of("a", "b", reference="R" * 90), FieldTokenizer(byte_reader.tokenizer, 259, 80))
    assert {type(one) for one in error.values()} == {ContextTooLong}
    assert error[1].field == "groups.0.prompt"


def test_controls_that_do_not_fit_are_left_out(byte_reader):
    assert len(encoded(group_of("a"), byte_reader).controls) == 4
    assert encoded(group_of("a"), FieldTokenizer(byte_reader.tokenizer, 259, 40)).controls == ()
    without = RewardConfig(context=ContextConfig(controls=False))
    assert encoded(group_of("a"), byte_reader, without).controls == ()


def test_controls_speak_the_language_of_the_prompt(byte_reader):
    decode = byte_reader.tokenizer.decode
    english, chinese = (encoded(group_of("a", prompt=text), byte_reader).controls for text in ("Why?", "为什么？"))
    assert decode(english[0]).startswith("Wait")
    assert decode(chinese[0]).startswith("等等")


def test_text_that_the_model_has_no_rows_for(byte_reader):
    small = FieldTokenizer(byte_reader.tokenizer, vocab_size=256, max_context=1000)
    assert isinstance(errors(group_of("a"), small)[0], TokenOutOfVocabulary)


@pytest.mark.parametrize("mode", ["ids", "text"])
def test_any_error_names_a_field_and_a_remedy(mode, byte_reader):
    rules = RewardConfig(context=ContextConfig(mode=mode))
    for fields in ({"prompt": ""}, {"reference": ""}, {"reference_token_ids": [999]}):
        error = errors(group_of("a", **fields), byte_reader, rules)[0]
        assert error.field is not None
        assert ";" in error.message or ", or " in error.message


@pytest.mark.parametrize("rules", [RULES, TEXT], ids=["ids", "text"])
def test_megabytes_of_tiny_paragraphs_are_refused_not_chewed(rules):
    fields = FieldTokenizer(ByteTokenizer(), 259, 4096)
    long = "<think>" + "a\n\n" * 200_000 + "</think>b"
    encoding = encode_group(group_of(long, "<think>a</think>b"), 0, fields, rules)
    assert isinstance(encoding.errors[0], ContextTooLong)
    assert [one.id for one in encoding.group.trajectories] == ["1"]


def test_in_text_mode_a_segments_context_may_be_the_longest():
    rules = RewardConfig(context=ContextConfig(mode="text", bridge=""))
    group = group_of("<think>a</think>")  # whole: 2 + 3 tokens; after the segment: 2 + 2 and two newlines
    assert errors(group, FieldTokenizer(ByteTokenizer(), 259, 8), rules) == {}
    assert isinstance(errors(group, FieldTokenizer(ByteTokenizer(), 259, 7), rules)[0], ContextTooLong)


def test_what_an_answer_stands_behind_where_nothing_was_asked(byte_reader, llama_like):
    decode = byte_reader.tokenizer.decode
    assert decode(encoded(group_of("a"), byte_reader).frame) == "<think>\n</think>\n\n"
    opened = encoded(group_of("a", prompt="Q:<think>\n"), byte_reader)
    assert decode(opened.frame) == "</think>\n\n"
    closed = encoded(group_of("a", prompt="Q:<think>\n</think>\n\n"), byte_reader)
    assert closed.frame.tolist() == closed.prompt_ids[-1:].tolist()

    fields = FieldTokenizer(llama_like, 500, 1000)
    started, bare = (
        encoded(group_of("a."), fields),
        encoded(group_of("a.", prompt_token_ids=[9], prompt=None), fields),
    )
    assert started.frame[0] == llama_like.start_ids[0]
    assert bare.frame.tolist() == started.frame[1:].tolist()
