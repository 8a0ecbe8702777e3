"""What is done with a batch before anybody is asked."""

from __future__ import annotations

from itertools import groupby
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from opera_adapters.reward import _templated


@given(st.lists(st.sampled_from(["a", "b", "longer"]), min_size=1, max_size=9))
def test_every_prompt_has_its_own_ids_and_equal_neighbours_are_tokenised_once(prompts: list[str]) -> None:
    asked: list[str] = []

    def tokenizer(text: list[str]) -> dict[str, list[list[int]]]:
        asked.extend(text)
        return {"input_ids": [list(one.encode()) for one in text]}

    found = _templated(SimpleNamespace(processing_class=tokenizer), prompts)
    assert found == [list(prompt.encode()) for prompt in prompts]
    assert asked == [prompt for prompt, _ in groupby(prompts)]
