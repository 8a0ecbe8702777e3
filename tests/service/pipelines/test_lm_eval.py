"""lm-evaluation-harness' `local-completions`, through a real port, against plain float64 transformers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance
from lm_eval.models.openai_completions import LocalCompletionsAPI
from transformers import PreTrainedTokenizerFast

from ..live import live

PAIRS = [
    ("What is 17 + 25?", " It is 42."),
    ("What is 17 + 25?", " Wait, it is not right."),
    ("", "The sea is grey."),
    ("等等,", "让我再想一想。"),
    ("Let me check it again.", "\n\nBut"),
]
ROLLING = ["It is a quiet evening; the sea is grey and the harbour empty. " * 3, "Hmm."]


pytestmark = pytest.mark.slow  # the harness takes long to import


@pytest.fixture(scope="module")
def url(tiny_qwen: Path) -> Iterator[str]:
    with live("--model", str(tiny_qwen), "--dtype", "float32", "--device", "cpu") as server:
        yield server.url


def harness(url: str, model: Path, **options: Any) -> LocalCompletionsAPI:
    return LocalCompletionsAPI(
        model=model.name,
        base_url=f"{url}/v1/completions",
        tokenizer_backend="remote",
        max_length=2048,
        max_retries=1,
        **options,
    )


def requests(kind: str, arguments: list[tuple]) -> list[Instance]:
    return [
        Instance(request_type=kind, doc={}, arguments=one, idx=index, metadata=("t", index, 1))
        for index, one in enumerate(arguments)
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 1, "tokenized_requests": True},
        {"batch_size": 4, "tokenized_requests": True},
        {"batch_size": 1, "tokenized_requests": False},
        {"batch_size": 4, "tokenized_requests": False},
        {"batch_size": 2, "tokenized_requests": True, "num_concurrent": 3},
    ],
    ids=lambda options: "-".join(f"{key}={value}" for key, value in options.items()),
)
def test_loglikelihood(
    url: str, tiny_qwen: Path, hf_tokenizer: PreTrainedTokenizerFast, oracle, options: dict[str, Any]
):
    model = harness(url, tiny_qwen, **options)
    found = model.loglikelihood(requests("loglikelihood", PAIRS), disable_tqdm=True)
    for (context, continuation), (logprob, _) in zip(PAIRS, found, strict=True):
        whole = hf_tokenizer(context + continuation, add_special_tokens=False).input_ids
        start = hf_tokenizer(context, add_special_tokens=False).input_ids
        target = whole[len(start) :]
        expected = sum(oracle(start or [hf_tokenizer.eos_token_id], target))
        assert logprob == pytest.approx(expected, abs=1e-4)


def test_a_greedy_continuation_is_recognised(url: str, tiny_qwen: Path, hf_tokenizer, rows):
    model = harness(url, tiny_qwen, batch_size=2)
    context = hf_tokenizer("What is", add_special_tokens=False).input_ids
    following = rows(context)[-1]
    best = int(following.argmax())
    other = (best + 1) % len(hf_tokenizer)
    (first, first_greedy), (second, second_greedy) = model._loglikelihood_tokens(
        [(None, context, [best]), (None, context, [other])]
    )
    assert (first_greedy, second_greedy) == (True, False)
    assert first == pytest.approx(float(following[best]), abs=1e-4)
    assert second == pytest.approx(float(following[other]), abs=1e-4)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_loglikelihood_rolling(
    url: str, tiny_qwen: Path, hf_tokenizer: PreTrainedTokenizerFast, oracle, batch_size: int
):
    model = harness(url, tiny_qwen, batch_size=batch_size)
    found = model.loglikelihood_rolling(
        requests("loglikelihood_rolling", [(text,) for text in ROLLING]), disable_tqdm=True
    )
    for text, logprob in zip(ROLLING, found, strict=True):
        ids = hf_tokenizer(text, add_special_tokens=False).input_ids
        assert logprob == pytest.approx(sum(oracle([hf_tokenizer.eos_token_id], ids)), abs=1e-4)
