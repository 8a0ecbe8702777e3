"""Traces become ids: the prompt as GRPO templates it, only response and end are learnt, nothing is cut."""

import pytest
from transformers import AutoTokenizer

from opera_client.wire import Message
from opera_demo import model_path
from opera_trainer.artefacts import Trace
from opera_trainer.sft.data import IGNORED, rows

RESPONSE = "<think>\nAna sold 3, 12 minus 3 is 9.\n\n</think>\n\nThe shop now has 9 pears."


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(model_path())


def trace(response=RESPONSE):
    prompt = [
        Message(role="user", content="The shop has 12 pears. Ana sold 3. How many pears does the shop have now?")
    ]
    return Trace(task_id="1", prompt=prompt, reference="", thought="", answer="", response=response, gain=0.1)


def test_only_the_response_and_its_end_are_learnt(tokenizer):
    (row,), dropped = rows([trace()], tokenizer, 512)
    learnt = [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label != IGNORED]
    assert tokenizer.decode(learnt) == RESPONSE + "<|im_end|>"
    assert [label for label in row["labels"] if label != IGNORED] == learnt
    whole = tokenizer.decode(row["input_ids"])
    assert whole.startswith("<|im_start|>user\nThe shop has 12 pears.")
    assert whole.endswith("<|im_start|>assistant\n" + RESPONSE + "<|im_end|>")
    assert dropped == 0


def test_a_long_trace_is_left_out_whole(tokenizer):
    (row,), _ = rows([trace()], tokenizer, 512)
    length = len(row["input_ids"])
    assert rows([trace()], tokenizer, length) == ([row], 0)
    assert rows([trace()], tokenizer, length - 1) == ([], 1)


def test_a_template_that_opens_the_thought_is_not_repeated(tokenizer, monkeypatch):
    monkeypatch.setattr(
        tokenizer, "chat_template", tokenizer.chat_template.replace("assistant\\n", "assistant\\n<think>\\n")
    )
    (row,), _ = rows([trace()], tokenizer, 512)
    assert tokenizer.decode(row["input_ids"]).count("<think>") == 1
    learnt = [label for label in row["labels"] if label != IGNORED]
    assert tokenizer.decode(learnt) == RESPONSE.removeprefix("<think>\n") + "<|im_end|>"
