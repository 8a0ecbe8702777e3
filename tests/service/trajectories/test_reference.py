import pytest

from opera_client.errors import EmptyReference
from opera_client.wire import Group, Trajectory
from opera_service.rewards.config import RewardConfig
from opera_service.trajectories.byte_tokenizer import END_ID
from opera_service.trajectories.encoding_config import ContextConfig
from opera_service.trajectories.field_tokenizer import FieldTokenizer
from opera_service.trajectories.reference import read_references


def priced(fields: FieldTokenizer, *, text: str | None = None, ids: list[int] | None = None, **context: object):
    """Return the shown text and the priced ids, decoded."""
    group = Group(prompt="Q", reference=text, reference_token_ids=ids, trajectories=[Trajectory(response="a")])
    (found,) = read_references(group, "f", fields, RewardConfig(context=ContextConfig(**context)))
    return found.text, fields.tokenizer.decode(found.ids)


def test_a_leading_think_block_is_not_priced_unless_asked(byte_reader):
    text = "\n<think>r\n</think>\n\nR"
    assert priced(byte_reader, text=text) == ("R", "R<|end|>")
    assert priced(byte_reader, text=text, reference_part="full", score_end=False) == (text, text)
    ids = byte_reader.tokenizer.encode(text).tolist()
    assert priced(byte_reader, ids=ids) == ("R", "R<|end|>")
    assert priced(byte_reader, ids=ids, text="shown") == ("R", "R<|end|>")


def test_a_block_that_does_not_lead_stays(byte_reader):
    assert priced(byte_reader, text="R <think>r</think>")[0] == "R <think>r</think>"


def flags(fields: FieldTokenizer, **given: object) -> tuple[str, ...]:
    group = Group(prompt="Q", trajectories=[Trajectory(response="a")], **given)
    (found,) = read_references(group, "f", fields, RewardConfig())
    return found.flags


def test_ids_are_priced_and_a_text_that_says_something_else_is_flagged_and_not_read(byte_reader):
    assert priced(byte_reader, text="shown", ids=[97]) == ("a", "a<|end|>")
    assert flags(byte_reader, reference="shown", reference_token_ids=[97]) == ("reference_text_ids_differ",)
    assert priced(byte_reader, text=" a\n", ids=[97]) == (" a\n", "a<|end|>")
    assert flags(byte_reader, reference=" a\n", reference_token_ids=[97, END_ID]) == ()
    assert flags(byte_reader, reference_token_ids=[97]) == ()


def test_a_thought_of_a_reference_with_another_text_has_both_flags(byte_reader):
    ids = byte_reader.tokenizer.encode("so</think>a").tolist()
    found = flags(byte_reader, reference="b", reference_token_ids=ids)
    assert found == ("reference_text_ids_differ", "reference_think_unopened")


def test_alternatives_beside_ids_are_refused():
    with pytest.raises(ValueError, match="alternative references come as texts"):
        Group(prompt="Q", reference=["a", "b"], reference_token_ids=[97], trajectories=[Trajectory(response="a")])


def test_the_end_of_turn_is_priced_once_or_not_at_all(byte_reader):
    assert priced(byte_reader, ids=[97, END_ID, END_ID]) == ("a", "a<|end|>")
    assert priced(byte_reader, ids=[97, END_ID], score_end=False) == ("a", "a")


def test_what_the_rules_put_around_it_is_tokenised_on_its_own(qwen_like):
    fields = FieldTokenizer(qwen_like, 512, 1000)
    (found,) = read_references(
        Group(prompt="Q", reference="\n\nR", trajectories=[Trajectory(response="a")]),
        "f",
        fields,
        RewardConfig(context=ContextConfig(reference_prefix="So.\n", reference_suffix="\n")),
    )
    parts = [qwen_like.encode(part).tolist() for part in ("So.\n", "\n\nR", "\n")]
    assert found.text == "\n\nR"
    assert found.ids.tolist() == [*parts[0], *parts[1], *parts[2], qwen_like.eos_id]


def test_an_answer_given_as_text_is_tokenised_alone_and_one_given_as_ids_is_cut(qwen_like):
    fields = FieldTokenizer(qwen_like, 512, 1000)
    text = "<think>r</think> the"
    assert priced(fields, text=text) == ("the", "the<|im_end|>")
    assert priced(fields, ids=qwen_like.encode(text).tolist()) == ("the", " the<|im_end|>")


def test_an_unclosed_reference_says_how_to_price_it(byte_reader):
    with pytest.raises(EmptyReference, match="never closes it; close it with </think>, or set"):
        priced(byte_reader, text="<think>r")
    assert priced(byte_reader, text="<think>r", reference_part="full")[0] == "<think>r"


@pytest.mark.parametrize("text", ["", " \n\u3000", "<think>r</think>", "<think>r</think>\n", "<think>r"])
def test_nothing_to_price(byte_reader, text):
    with pytest.raises(EmptyReference):
        priced(byte_reader, text=text)


def test_a_start_token_in_the_middle_is_never_priced(llama_like):
    group = Group(prompt="Q", reference="The answer", trajectories=[Trajectory(response="a")])
    (found,) = read_references(group, "f", FieldTokenizer(llama_like, 500, 1000), RewardConfig())
    assert llama_like.bos_id not in found.ids


def test_a_thought_that_only_closes_is_not_priced_and_said_to_be_there(byte_reader):
    text = "r\n</think>\n\nR"
    group = Group(prompt="Q", reference=text, trajectories=[Trajectory(response="a")])
    (found,) = read_references(group, "f", byte_reader, RewardConfig())
    assert (found.text, found.flags) == ("R", ("reference_think_unopened",))
    ids = byte_reader.tokenizer.encode(text).tolist()
    assert priced(byte_reader, ids=ids) == ("R", "R<|end|>")
    assert priced(byte_reader, text=text, reference_part="full")[0] == text


def test_the_references_own_ends_and_padding_are_dropped(two_ends):
    fields = FieldTokenizer(two_ends, 512, 1000)
    pad, other, end = two_ends.pad_id, two_ends.eos_id, two_ends.turn_end_id
    body = two_ends.encode("the answer").tolist()
    for tail in ([], [end], [other], [end, pad, pad], [end, *two_ends.encode("\n").tolist(), other, pad]):
        assert priced(fields, ids=body + tail)[1] == "the answer<|im_end|>"
    assert priced(fields, text="the answer<|im_end|>\n<|endoftext|>") == ("the answer", "the answer<|im_end|>")
