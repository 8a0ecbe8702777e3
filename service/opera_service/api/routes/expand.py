"""POST /expand."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from opera_client.errors import IdempotencyKeyReused, NotSupported, TooManyBranches, TooManyItems
from opera_client.wire import ExpandRequest, ExpandResult
from opera_service.api import examples
from opera_service.api.answering import receive, respond
from opera_service.api.describing import SCORING_ERRORS, described
from opera_service.pipelines.expand import expand

router = APIRouter(tags=["rewards"])


@router.post(
    "/expand",
    **described(
        "Sample branches after a prefix and order them by log-probability",
        body=ExpandRequest,
        answer=ExpandResult,
        ask=examples.EXPAND_REQUEST,
        get=examples.EXPAND_RESULT,
        errors=(*SCORING_ERRORS, IdempotencyKeyReused, TooManyItems, TooManyBranches, NotSupported),
    ),
)
async def post_expand(request: Request) -> Response:
    """Sample `n` branches after prompt + prefix and order them as `/rank` does, `by` the same four numbers.

    Branch i begins with guiding word i modulo their number, tokenised alone and put behind the literal prefix. A
    branch ends before the first of the `stop` texts that it writes, at the last token border before it; a stop
    text that begins or ends with a letter counts as a whole word only (`But` never inside `Button`). Text, ids and
    numbers include the guiding word, but neither stop text nor end token. A branch that ended at once is `ok` with
    0 tokens and no score, and stands behind all others. With a `seed` the same engine on the same weights samples
    the same branches again; another engine samples others.
    """
    return await respond(await receive(request, ExpandRequest), expand)
