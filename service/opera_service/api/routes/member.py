"""POST /reward/member."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from opera_client.wire import MemberRequest, MemberResult
from opera_service.api import examples
from opera_service.api.answering import receive, respond
from opera_service.api.describing import GROUP_ERRORS, described
from opera_service.api.state import state_of
from opera_service.pipelines.member import reward_member

router = APIRouter(tags=["rewards"])


@router.post(
    "/reward/member",
    **described(
        "Score one trajectory with its group, once the others have come",
        body=MemberRequest,
        answer=MemberResult,
        ask=examples.MEMBER_REQUEST,
        errors=GROUP_ERRORS,
    ),
)
async def post_member(request: Request) -> Response:
    """Wait until all `group_size` members of a group are here, score them together, and answer each.

    The same `member_id` again, after a lost connection say, gets the same answer and never counts twice. After
    `wait_s`, `on_timeout` decides: reward the members present (flag `group_partial`), or 408. Members of a group
    must reach the same process: route by the header `X-Opera-Group`. The cost headers are the whole group's.
    """
    sender = state_of(request).authenticator.sender(request.headers)
    call = await receive(request, MemberRequest)
    return await respond(call, partial(reward_member, sender=sender), replays=False)
