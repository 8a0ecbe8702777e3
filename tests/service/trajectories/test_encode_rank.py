import pytest

from opera_client.errors import (
    ContextTooLong,
    EmptyContext,
    EmptyReference,
    EmptyResponse,
    OperaError,
    TokenOutOfVocabulary,
)
from opera_client.wire import RankItem
from opera_service.trajectories.encode_rank import encode_rank
from opera_service.trajectories.field_tokenizer import FieldTokenizer


def item(**fields: object) -> RankItem:
    return RankItem.model_validate(
        {"prompt": "Q:", "prefix": "<think>a\n\n", "candidates": ["Wait", "But"]} | fields
    )


def test_each_text_is_tokenised_alone(qwen_like):
    encoded = encode_rank(
        item(prefix="a.", candidates=["\n\nb", {"token_ids": [5, 6]}]), 4, FieldTokenizer(qwen_like, 512, 99)
    )
    assert encoded.prefix_ids.tolist() == qwen_like.encode("a.").tolist()
    assert {i: ids.tolist() for i, ids in encoded.candidates.items()} == {
        0: qwen_like.encode("\n\nb").tolist(),
        1: [5, 6],
    }
    assert (encoded.id, encoded.by, encoded.reference_ids.tolist(), encoded.errors) == ("4", "branch", [], {})


def test_a_bad_candidate_spoils_no_other(byte_reader):
    encoded = encode_rank(
        item(id="x", candidates=["", "b", {"token_ids": [999]}, {"token_ids": []}]), 0, byte_reader
    )
    assert encoded.id == "x"
    assert list(encoded.candidates) == [1]
    assert {i: (type(error), error.field) for i, error in encoded.errors.items()} == {
        0: (EmptyResponse, "items.0.candidates.0"),
        2: (TokenOutOfVocabulary, "items.0.candidates.2.token_ids"),
        3: (EmptyResponse, "items.0.candidates.3.token_ids"),
    }


@pytest.mark.parametrize(
    ("fields", "kind", "field"),
    [
        ({"prompt": "", "prefix": None}, EmptyContext, "items.2.prompt"),
        ({"prompt": "", "by": "sequence"}, EmptyContext, "items.2.prompt"),
        ({"prompt_token_ids": [], "by": "sequence"}, EmptyContext, "items.2.prompt_token_ids"),
        ({"prefix_token_ids": [999]}, TokenOutOfVocabulary, "items.2.prefix_token_ids"),
        ({"by": "reference", "reference": ""}, EmptyReference, "items.2.reference"),
        ({"by": "reference", "reference": "\u200b"}, EmptyReference, "items.2.reference"),
        ({"by": "reference", "reference": " ."}, EmptyReference, "items.2.reference"),
        ({"by": "reference", "reference_token_ids": [46]}, EmptyReference, "items.2.reference_token_ids"),
        ({"by": "reference", "reference_token_ids": []}, EmptyReference, "items.2.reference_token_ids"),
    ],
)
def test_errors_of_the_whole_item(byte_reader, fields, kind, field):
    with pytest.raises(OperaError) as caught:
        encode_rank(item(**fields), 2, byte_reader)
    assert (type(caught.value), caught.value.field) == (kind, field)


def test_a_prefix_alone_is_context_enough_for_the_branches(byte_reader):
    assert len(encode_rank(item(prompt=""), 0, byte_reader).candidates) == 2


def test_prompt_prefix_candidate_and_reference_must_fit(byte_reader):
    asked = item(candidates=["abc", "abcd"], by="reference", reference="R")  # 2 + 4 + 3 + 1 tokens, and one more
    encoded = encode_rank(asked, 0, FieldTokenizer(byte_reader.tokenizer, 259, 10))
    assert list(encoded.candidates) == [0]
    assert isinstance(encoded.errors[1], ContextTooLong)
    assert "prompt 2 + prefix 4 + candidate 4 + reference 1 = 11" in encoded.errors[1].message
