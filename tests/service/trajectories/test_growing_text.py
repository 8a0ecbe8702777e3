"""Growing by pieces gives the tokens that plain tokenising gives, for every family of tokenizers."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opera_service.scoring.tree import as_ids
from opera_service.trajectories.growing_text import GrowingText
from opera_service.trajectories.hf_tokenizer import HFTokenizer

PIECES = st.lists(
    st.sampled_from(["Wait", "butter", " ", "\n", "\n\n", ".\n\n", "等等", "é", "😀", "<think>", "a b", "'s", "1"])
    | st.text(max_size=12),
    min_size=1,
    max_size=60,
)


def plain(tokenizer: HFTokenizer, start: list[int], text: str, pieces: list[str]) -> list[list[int]]:
    return [[*start, *tokenizer.encode(text + "".join(pieces[:k])).tolist()] for k in range(1, len(pieces) + 1)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(pieces=PIECES, lead=st.sampled_from([4, 16, 64]), text=st.sampled_from(["", "Q: what?\n<think>"]))
def test_it_equals_tokenising_each_length_from_its_start(any_tokenizer, pieces, lead, text):
    growing = GrowingText(text, any_tokenizer, lead=lead)
    lengths = [growing.add(piece) for piece in pieces]
    seen = []
    found = [context.tolist() for context in growing.contexts(as_ids([7]), seen.append)]
    assert found == plain(any_tokenizer, [7], text, pieces)
    assert lengths == [len(context) - 1 for context in found]
    assert [context.tolist() for context in seen] == found


class Counting:
    """A tokenizer that counts the characters it is given."""

    def __init__(self, tokenizer: HFTokenizer) -> None:
        self._tokenizer, self.characters = tokenizer, 0

    def encode(self, text: str):
        self.characters += len(text)
        return self._tokenizer.encode(text)


@pytest.mark.parametrize("name", ["qwen_like", "sentencepiece_like"])
def test_the_work_grows_with_the_text_not_with_its_square(name, request):
    counting = Counting(request.getfixturevalue(name))
    growing = GrowingText("Q", counting)
    for number in range(1000):
        growing.add(f"a step, {number}\n\n")
    contexts = growing.contexts(as_ids([]), lambda _: None)
    assert len(contexts) == 1000
    assert counting.characters < 1000 * 4 * 1024 + 100_000  # each from its start: 8 million
    owned = sum(context.nbytes for context in contexts if context.base is None)
    assert owned < 1_000_000 or owned < sum(context.nbytes for context in contexts) / 10


def test_nothing_added_is_nothing_marked(qwen_like):
    assert GrowingText("Q", qwen_like).contexts(np.array([], dtype=np.int64), lambda _: None) == []
