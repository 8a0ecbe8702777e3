import pytest
from pydantic import ValidationError

from opera_client.errors import (
    ContextTooLong,
    EmptyContext,
    EmptyResponse,
    InvalidRequest,
    OperaError,
    TokenOutOfVocabulary,
)
from opera_client.wire import ScoreItem
from opera_service.trajectories.encode_score import encode_score
from opera_service.trajectories.field_tokenizer import FieldTokenizer


def item(**fields: object) -> ScoreItem:
    return ScoreItem.model_validate({"context": "ab", "target": "c"} | fields)


def ids(**given: object) -> ScoreItem:
    """An item of which only what is given comes as ids."""
    texts = {name: text for name, text in (("context", "ab"), ("target", "c")) if f"{name}_token_ids" not in given}
    return ScoreItem.model_validate(texts | given)


def test_context_and_target_are_tokenised_alone(llama_like):
    encoded = encode_score(item(context="a.", target="\n\nb"), 7, FieldTokenizer(llama_like, 450, 99))
    assert encoded.id == "7"
    assert encoded.context.tolist() == [llama_like.bos_id, *llama_like.encode("a.")]
    assert encoded.target.tolist() == llama_like.encode("\n\nb").tolist()


def test_ids_are_taken_as_they_are(byte_reader):
    encoded = encode_score(ids(context_token_ids=[1], target_token_ids=[2, 3]), 0, byte_reader)
    assert (encoded.context.tolist(), encoded.target.tolist()) == ([1], [2, 3])


@pytest.mark.parametrize("name", ["context", "target"])
def test_text_and_ids_of_one_thing_are_refused(name):
    with pytest.raises(ValidationError, match=f"give `{name}` or `{name}_token_ids`, not both"):
        item(**{f"{name}_token_ids": [1]})


@pytest.mark.parametrize(
    ("fields", "kind", "field"),
    [
        ({"context": ""}, EmptyContext, "items.0.context"),
        ({"context_token_ids": []}, EmptyContext, "items.0.context_token_ids"),
        ({"target": ""}, EmptyResponse, "items.0.target"),
        ({"target_token_ids": [259]}, TokenOutOfVocabulary, "items.0.target_token_ids"),
        ({"target": "cd" * 5}, ContextTooLong, "items.0.target"),
        ({"target_token_ids": [1, 2], "target_mask": [1]}, InvalidRequest, "items.0.target_mask"),
        ({"target_token_ids": [1, 2], "target_mask": [0, 0]}, EmptyResponse, "items.0.target_mask"),
        ({"other_contexts": [{"name": "a", "context": ""}]}, EmptyContext, "items.0.other_contexts.0.context"),
        (
            {"other_contexts": [{"name": "a", "context": "b"}, {"name": "b", "context": "cd" * 6}]},
            ContextTooLong,
            "items.0.other_contexts.1.context",
        ),
    ],
)
def test_errors(byte_reader, fields, kind, field):
    with pytest.raises(OperaError) as caught:
        encode_score(ids(**fields), 0, FieldTokenizer(byte_reader.tokenizer, 259, 11))
    assert (type(caught.value), caught.value.field) == (kind, field)


def test_context_and_target_may_fill_the_model(byte_reader):
    assert len(encode_score(item(), 0, FieldTokenizer(byte_reader.tokenizer, 259, 3)).target) == 1
