"""A language model as judge: which of two answers is better, in both orders, over an OpenAI-compatible address.

A judge that changes its mind with the order has no opinion: that is a tie, and so is a reply that cannot be read.
Knows HTTP; no stage.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from opera_client.errors import BadInput, Unavailable
from opera_trainer.settings.judging import LlmSettings

QUESTION = """Two answers to the same request follow. Judge which one helps the person more: whether it is right, \
to the point, complete and clear. Do not prefer an answer for being longer, or for standing first.

Request:
{prompt}

Answer A:
{first}

Answer B:
{second}

Reply with one word: A, B or tie."""
CONCURRENCY = 8
_WORD = re.compile(r"\b(A|B|tie)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Pair:
    """One task and the two answers that are compared."""

    task_id: str
    prompt: str
    before: str
    after: str


@dataclass(frozen=True)
class Opinion:
    """What the judge says of a pair: 1 the answer after training, -1 the one before, 0 a tie."""

    task_id: str
    preference: int
    consistent: bool
    """Whether both orders gave the same."""


async def opinions(
    settings: LlmSettings, pairs: Sequence[Pair], transport: httpx.AsyncBaseTransport | None = None
) -> list[Opinion]:
    """Ask about all pairs, each in both orders.

    Raises:
        Unavailable: the judge does not answer.
        BadInput: it refuses the request; the message has what it said.
    """
    gate = asyncio.Semaphore(CONCURRENCY)
    key = os.environ.get("OPERA_JUDGE_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}

    async def one(client: httpx.AsyncClient, pair: Pair) -> Opinion:
        async with gate:
            said = [
                await _ask(client, settings, pair.prompt, first, second)
                for first, second in ((pair.before, pair.after), (pair.after, pair.before))
            ]
        votes = [{"A": -1, "B": 1}.get(said[0], 0), {"A": 1, "B": -1}.get(said[1], 0)]
        return Opinion(pair.task_id, votes[0] if votes[0] == votes[1] else 0, votes[0] == votes[1])

    async with httpx.AsyncClient(headers=headers, timeout=settings.timeout_s, transport=transport) as client:
        return list(await asyncio.gather(*(one(client, pair) for pair in pairs)))


async def _ask(client: httpx.AsyncClient, settings: LlmSettings, prompt: str, first: str, second: str) -> str:
    """Return `A`, `B`, or anything else for a tie."""
    question = QUESTION.format(prompt=prompt, first=first, second=second)
    body = {
        "model": settings.model, "temperature": 0, "max_tokens": 512,
        "messages": [{"role": "user", "content": question}],
    }  # fmt: skip
    where = f"{settings.url.rstrip('/')}/chat/completions"
    try:
        answer = await client.post(where, json=body)
    except httpx.HTTPError as error:
        raise Unavailable(f"judging.llm: no answer from {where}: {error or type(error).__name__}") from None
    if answer.status_code != 200:
        kind = Unavailable if answer.status_code >= 500 or answer.status_code == 429 else BadInput
        raise kind(f"judging.llm: {where} says {answer.status_code}: {answer.text[:200]}")
    try:
        text = str(answer.json()["choices"][0]["message"]["content"])
    except (ValueError, KeyError, IndexError, TypeError):
        raise BadInput(f"judging.llm: {where} does not answer as a chat of OpenAI's form does") from None
    # A judge that thinks first says its word at the end.
    found = _WORD.findall(text.rpartition("</think>")[2])
    return found[-1].upper() if found else ""
