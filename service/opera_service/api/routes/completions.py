"""OpenAI's form: POST /v1/completions for scoring, GET /v1/models."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from opera_client.errors import IdempotencyKeyReused, NotFound, NotSupported, TooManyItems
from opera_service.api import examples
from opera_service.api.answering import receive, respond
from opera_service.api.describing import COMMON_ERRORS, SCORING_ERRORS, described
from opera_service.api.state import runtime_of
from opera_service.pipelines.completions import CompletionRequest, CompletionResult, complete

router = APIRouter(prefix="/v1", tags=["OpenAI form"])


@router.post(
    "/completions",
    **described(
        "Log-probabilities of prompts, in OpenAI's form",
        body=CompletionRequest,
        answer=CompletionResult,
        ask=examples.COMPLETION_REQUEST,
        errors=(*SCORING_ERRORS, IdempotencyKeyReused, TooManyItems, NotFound, NotSupported),
    ),
)
async def post_completions(request: Request) -> Response:
    """Score prompts, given as text(s) or token-id list(s), with `echo` and `logprobs`.

    `max_tokens` is 0, or 1 for one greedy token; more is `not_supported`. This is what lm-evaluation-harness'
    `local-completions` needs, with `tokenizer_backend=remote`. There are no errors per prompt in this form: the
    first bad prompt fails the request.
    """
    name = f"cmpl-{request.state.request_id}"
    return await respond(await receive(request, CompletionRequest), partial(complete, name=name))


@router.get("/models", **described("The served model, in OpenAI's form", errors=COMMON_ERRORS))
async def get_models(request: Request) -> Response:
    """List the one model there is."""
    model = runtime_of(request).served_model()
    entry = {
        "id": model.name,
        "object": "model",
        "created": 0,
        "owned_by": "opera-reward",
        "max_model_len": model.max_context,
    }
    return JSONResponse({"object": "list", "data": [entry]})
