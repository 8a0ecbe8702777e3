"""POST /v1/completions in OpenAI's form, for scoring: echoed prompts with log-probs, at most one greedy token.

What lm-evaluation-harness' `local-completions` speaks. It writes no text: more than one token is refused.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from opera_client.errors import EmptyContext, InvalidRequest, NotFound, NotSupported
from opera_client.wire import FirstError, TokenIds
from opera_service.failures import or_raise
from opera_service.pipelines.costed import Costed
from opera_service.pipelines.request_context import RequestContext
from opera_service.pipelines.runtime import Runtime
from opera_service.pipelines.token_text import TokenText
from opera_service.scoring.planner import Place, Planner
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import Ids, TokenTree, as_ids


def _form(prompt: object) -> str:
    if isinstance(prompt, str):
        return "text"
    first = prompt[0] if isinstance(prompt, list) and prompt else None
    return "ids" if isinstance(first, int) else "id_lists" if isinstance(first, list) else "texts"


Prompts = Annotated[
    Annotated[str, Tag("text")]
    | Annotated[list[str], FirstError(), Tag("texts")]
    | Annotated[TokenIds, Tag("ids")]
    | Annotated[list[TokenIds], FirstError(), Tag("id_lists")],
    Discriminator(_form),
]
"""One prompt or several, each text or ids; told apart by a look at the first element."""
_NEUTRAL: dict[str, Any] = {
    "n": 1,
    "best_of": 1,
    "stream": False,
    "top_p": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
}


class CompletionRequest(BaseModel):
    """OpenAI's request; fields that would change sampling are accepted at their neutral value only."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: str | None = None
    prompt: Prompts
    echo: bool = False
    logprobs: int | None = Field(None, ge=0, le=20, description="How many alternatives per token; 0: none.")
    max_tokens: int = Field(16, ge=0, description="0 or 1: this service scores. 1 needs `temperature` 0.")
    temperature: float = Field(1.0, ge=0)
    add_special_tokens: bool = Field(True, description="Start texts as the model's tokenizer does.")
    seed: int | None = Field(None, description="Accepted; greedy choice needs none.")
    user: str | None = None
    n: int | None = None
    best_of: int | None = None
    stream: bool | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: str | list[str] | None = Field(None, description="Accepted; one token cannot be cut.")
    suffix: None = None
    logit_bias: None = None
    stream_options: None = None

    def prompts(self) -> list[str | list[int]]:
        """Return the prompts as a list, whichever of the four forms was used."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if self.prompt and isinstance(self.prompt[0], int):
            return [[one for one in self.prompt if isinstance(one, int)]]
        return [one for one in self.prompt if not isinstance(one, int)]


class ChoiceLogprobs(BaseModel):
    """Per token of the choice's text; the first token of an echoed prompt has no log-prob."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class Choice(BaseModel):
    """One prompt's answer."""

    index: int
    text: str
    logprobs: ChoiceLogprobs | None
    finish_reason: str = "length"


class CompletionUsage(BaseModel):
    """OpenAI's token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionResult(BaseModel):
    """OpenAI's answer."""

    id: str
    object: str = "text_completion"
    created: int
    model: str
    choices: list[Choice]
    usage: CompletionUsage


@dataclass(frozen=True)
class _Planned:
    ids: Ids
    echoed: Place | None
    """All tokens but the first, each after those before it."""
    following: Place | None
    """The row after the last token."""


async def complete(
    runtime: Runtime, request: CompletionRequest, *, deadline: float | None = None, name: str = "cmpl"
) -> Costed:
    """Score all prompts; raises the first error, as this form has no errors per prompt. `name` is its id."""
    _check_supported(runtime, request)
    runtime.limits.check_items(len(request.prompts()), "prompt")
    with RequestContext(runtime, request, "prompt", deadline=deadline) as context:
        trees, plans = await context.encode(_plan_all, runtime, request)
        scores = [or_raise(answer) for answer in await context.score(trees)]
        choices = await context.read(_read_all, runtime, request, plans, scores)
    prompt_tokens = sum(len(plan.ids) for plan in plans)
    written = request.max_tokens * len(plans)
    result = CompletionResult(
        id=name,
        created=int(time.time()),
        model=context.model.name,
        choices=choices,
        usage=CompletionUsage(
            prompt_tokens=prompt_tokens, completion_tokens=written, total_tokens=prompt_tokens + written
        ),
    )
    return Costed(result, context.usage, context.timing, context.model.weight_version)


def _check_supported(runtime: Runtime, request: CompletionRequest) -> None:
    if request.max_tokens > 1:
        raise NotSupported(
            f"max_tokens is {request.max_tokens} but this endpoint scores and writes at most one token; "
            "set max_tokens to 0 or 1",
            field="max_tokens",
        )
    if request.max_tokens == 1 and request.temperature != 0:
        raise NotSupported("the one token is chosen greedily; set temperature to 0", field="temperature")
    for name, neutral in _NEUTRAL.items():
        if getattr(request, name) not in (None, neutral):
            raise NotSupported(f"{name} is not supported; leave it out", field=name)
    name = runtime.model().name
    if request.model not in (None, name):
        raise NotFound(f"model {request.model!r} is not served here; {name!r} is", field="model")


def _plan_all(runtime: Runtime, request: CompletionRequest) -> tuple[list[TokenTree], list[_Planned]]:
    planner = Planner(runtime.max_batch_tokens)
    plans = [
        _plan(
            runtime, request, planner, prompt, "prompt" if isinstance(request.prompt, str) else f"prompt.{index}"
        )
        for index, prompt in enumerate(request.prompts())
    ]
    if not plans:
        raise InvalidRequest("prompt is an empty list; give at least one prompt", field="prompt")
    return planner.build(want_top=max(request.logprobs or 0, request.max_tokens)), plans


def _plan(
    runtime: Runtime, request: CompletionRequest, planner: Planner, prompt: str | list[int], field: str
) -> _Planned:
    fields = replace(runtime.field_tokenizer, add_special_tokens=request.add_special_tokens)
    ids = fields.start(prompt, None, field) if isinstance(prompt, str) else fields.checked(as_ids(prompt), field)
    if not len(ids):
        raise EmptyContext("the prompt has no tokens; give at least one", field=field)
    runtime.field_tokenizer.check_length(field, prompt=len(ids), max_tokens=request.max_tokens)
    wanted = request.echo and request.logprobs is not None and len(ids) > 1
    return _Planned(
        ids,
        echoed=planner.add(ids[:1], ids[1:]) if wanted else None,
        following=planner.add(ids, as_ids([0])) if request.max_tokens else None,
    )


def _read_all(
    runtime: Runtime, request: CompletionRequest, plans: Sequence[_Planned], scores: Sequence[TreeScores]
) -> list[Choice]:
    return [_read(runtime, request, index, plan, scores) for index, plan in enumerate(plans)]


def _read(
    runtime: Runtime, request: CompletionRequest, index: int, plan: _Planned, scores: Sequence[TreeScores]
) -> Choice:
    ids = plan.ids if request.echo else as_ids([])
    logprobs: list[float | None] = [None] if len(ids) else []
    tops: list[dict[int, float] | None] = [None] if len(ids) else []
    if plan.echoed is not None:
        found = scores[plan.echoed.tree]
        logprobs += found.of(plan.echoed.query).tolist()
        tops += _tops(found, plan.echoed.query, request.logprobs or 0)
    if plan.following is not None:
        found = scores[plan.following.tree]
        (best,) = _tops(found, plan.following.query, max(request.logprobs or 0, 1))
        chosen = next(iter(best))
        ids = np.append(ids, as_ids([chosen]))
        logprobs.append(best[chosen])
        tops.append(best)
    text = TokenText(runtime.tokenizer, ids)
    if request.logprobs is None:
        return Choice(index=index, text=text.text, logprobs=None)
    return Choice(
        index=index,
        text=text.text,
        logprobs=ChoiceLogprobs(
            tokens=text.tokens,
            token_logprobs=logprobs,
            top_logprobs=[
                None if top is None or own is None else text.named(position, {**top, int(ids[position]): own})
                for position, (top, own) in enumerate(zip(tops, logprobs, strict=True))
            ]
            if request.logprobs
            else None,
            text_offset=text.offsets,
        ),
    )


def _tops(scores: TreeScores, query: int, count: int) -> list[dict[int, float]]:
    """Return id -> log-prob of the `count` most likely tokens of each row of `query`, best first."""
    if not count:
        return [{} for _ in scores.of(query)]
    ids, values = scores.top_of(query, count)
    return [dict(zip(*pair, strict=True)) for pair in zip(ids.tolist(), values.tolist(), strict=True)]
