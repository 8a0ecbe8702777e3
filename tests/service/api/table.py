"""The dummy engine's arithmetic, written again from its documentation, as an oracle."""

import math

VOCAB = 259
MARKS = {"<think>": 256, "</think>": 257, "<|end|>": 258}


def ids_of(text: str) -> list[int]:
    """The byte tokenizer: bytes, and single ids for the marks."""
    found: list[int] = []
    while text:
        mark = next((name for name in MARKS if text.startswith(name)), None)
        found += [MARKS[mark]] if mark else list(text[0].encode())
        text = text[len(mark or text[0]) :]
    return found


def logprob(previous: int, token: int) -> float:
    """log p(token | previous)."""
    weights = [1 + ((previous + 1) * (other + 1)) % 13 for other in range(VOCAB)]
    return math.log(weights[token] / sum(weights))


def logprobs(context: str, target: str) -> list[float]:
    """One log-prob per target token."""
    path = ids_of(context)
    found = []
    for token in ids_of(target):
        found.append(logprob(path[-1], token))
        path.append(token)
    return found


def mean(values: list[float]) -> float:
    return sum(values) / len(values)
