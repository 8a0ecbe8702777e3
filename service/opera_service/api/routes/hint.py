"""POST /reward/hint."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from opera_client.wire import HintRequest, HintResult
from opera_service.api import examples
from opera_service.api.answering import read
from opera_service.api.body import small
from opera_service.api.describing import BODY_ERRORS, described
from opera_service.api.state import runtime_of
from opera_service.pipelines.hints import weight_of

router = APIRouter(tags=["rewards"])


@router.post(
    "/reward/hint",
    status_code=202,
    **described(
        "Say what is known of a trajectory so far, to have its reward sooner",
        body=HintRequest,
        answer=HintResult,
        ask=examples.HINT_REQUEST,
        errors=BODY_ERRORS,
    ),
)
async def post_hint(request: Request) -> Response:
    """Take the next part of a trajectory and work ahead: prefill its context, price its paragraphs as they end.

    Answered at once, before anything is done. `/reward` and `/reward/member` answer the same numbers with hints
    and without; a hint that is lost, late, repeated or wrong costs time only. It is of use where the engine keeps
    what it computed: with `--route kept_trunks`, and on vLLM.
    """
    runtime = runtime_of(request)
    hint = await read(request, HintRequest)
    accepted = runtime.hints.take(hint, await runtime.in_thread(weight_of, hint))
    return await small(HintResult(accepted=accepted), status=202)
