"""The decoder of a GPU run continues as the model itself does; the captured graph is tested by the run alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from gpu.decoder import Decoder
from opera_demo import model_path

END = 0


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(model_path(), dtype=torch.float32).eval()


def test_likeliest_answers_are_those_of_generate(model: Any) -> None:
    torch.manual_seed(0)
    prompts = [torch.randint(1, model.config.vocab_size, (length,)).tolist() for length in (5, 11, 20)]
    decoder = Decoder(model, rows=4, prompt=24, answer=12, end=END)

    first, again = decoder.sample(prompts, 0), decoder.sample(prompts, 0)

    assert first == again == [likeliest(model, prompt, 12) for prompt in prompts]


def test_an_answer_ends_with_its_end_token(model: Any) -> None:
    prompt = [3, 4, 5]
    end = likeliest(model, prompt, 3)[1]
    decoder = Decoder(model, rows=1, prompt=8, answer=12, end=end)

    (answer,) = decoder.sample([prompt], 0)

    assert answer.index(end) == len(answer) - 1


def test_too_long_a_prompt_is_refused(model: Any) -> None:
    with pytest.raises(ValueError, match="9 tokens do not fit"):
        Decoder(model, rows=1, prompt=8, answer=2, end=END).sample([[3] * 9], 1)


def likeliest(model: Any, prompt: list[int], tokens: int) -> list[int]:
    ids = torch.tensor([prompt])
    found = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=tokens,
        do_sample=False,
        eos_token_id=END,
        pad_token_id=END,
    )
    row: list[int] = found[0, len(prompt) :].tolist()
    return row
