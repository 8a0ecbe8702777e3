"""One question, one answer: sends a request until it is answered, refused, or out of time.

Knows retries, deadlines and error bodies; knows nothing of rewards.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from opera_client._parse import travelling
from opera_client._retry import Backoff, Deadline, is_retryable, parse_retry_after
from opera_client.errors import (
    DeadlineExceeded,
    OperaError,
    ServiceUnreachable,
    UnexpectedAnswer,
    error_from_body,
)
from opera_client.network import header_value, through
from opera_client.wire import problem_of

Answer = TypeVar("Answer", bound=BaseModel)

MAX_ANSWER_MB = 1024
"""What a stranger's endless answer may take of this process's memory; ours are hundreds of times smaller."""
_GATEWAY = frozenset({502, 503, 504})
_NO_ANSWER = (httpx.TransportError, OSError, UnicodeError, ExceptionGroup)
"""Beside httpx's own: a host name that is none, and one error for each of a host's addresses."""


async def ask(
    http: httpx.AsyncClient,
    kind: type[Answer],
    method: str,
    path: str,
    *,
    body: BaseModel | None = None,
    content: Callable[[], AsyncIterator[bytes]] | None = None,
    deadline: Deadline,
    backoff: Backoff,
    request_id: str | None = None,
    accept: frozenset[int] = frozenset({200}),
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send and return the parsed answer. Retries keep the same `X-Request-Id`.

    `content` is sent in place of a `body`, called afresh for each attempt.

    Raises:
        OperaError: the service's own error, at once unless it or its status is retryable.
        ServiceUnreachable: no answer, after all retries.
        DeadlineExceeded: the answer did not come in time.
        UnexpectedAnswer: something answered, but not this service.
    """
    name = uuid.uuid4().hex if request_id is None else header_value(request_id, "request_id")
    kept = "application/json" if content is None else "application/octet-stream"
    headers = {**(headers or {}), "X-Request-Id": name, "Content-Type": kept}
    text = None if body is None else travelling(body)
    failures = 0
    while True:
        try:
            async with asyncio.timeout(deadline.remaining):
                request = http.build_request(method, path, content=content() if content else text, headers=headers)
                response, answer = await _whole(http, request)
        except TimeoutError:
            raise _too_late(deadline, name) from None
        except OperaError:
            raise  # what is sent could not be read
        except _NO_ANSWER as error:
            problem: OperaError = _unreachable(http, error, name)
        except Exception as error:  # whatever a stranger's answer makes the library raise, callers see our errors
            raise UnexpectedAnswer(
                f"{http.base_url} answered what cannot be read ({type(error).__name__}: {str(error)[:200]}); "
                "check the address",
                request_id=name,
            ) from error
        else:
            if response.status_code in accept:
                return _parse(kind, response, answer, name)
            problem = _refusal(response, answer, name)
            if not (is_retryable(response.status_code) or problem.retryable):
                raise problem
        wait = backoff.wait(failures, problem.retry_after)
        if wait is None or not deadline.allows(wait):
            raise problem
        failures += problem.retry_after is None
        await asyncio.sleep(wait)


async def _whole(http: httpx.AsyncClient, request: httpx.Request) -> tuple[httpx.Response, bytes]:
    """Send, and return the answer and its body. Raises `UnexpectedAnswer` when it is too long."""
    response = await http.send(request, stream=True)
    try:
        size, chunks = 0, []
        async for chunk in response.aiter_bytes():
            size += len(chunk)
            if size > MAX_ANSWER_MB * 2**20:
                raise UnexpectedAnswer(
                    f"{request.url} answered more than {MAX_ANSWER_MB} MiB; check the address or send fewer groups"
                )
            chunks.append(chunk)
    finally:
        await response.aclose()
    return response, b"".join(chunks)


def _parse(kind: type[Answer], response: httpx.Response, content: bytes, request_id: str) -> Answer:
    try:
        return kind.model_validate_json(content, strict=True)  # or `true` and "0.5" would become numbers
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        raise UnexpectedAnswer(
            f"{response.url} answered {response.status_code}, but not as opera-reward does: {where}: "
            f"{problem_of(first)}; check the address and the versions of client and service",
            request_id=request_id,
        ) from None


def _refusal(response: httpx.Response, content: bytes, request_id: str) -> OperaError:
    try:
        error = error_from_body(json.loads(content), status=response.status_code)
    except (ValueError, RecursionError):
        error = error_from_body(content.decode(errors="replace"), status=response.status_code)
    if isinstance(error, UnexpectedAnswer) and response.status_code in _GATEWAY:
        error = ServiceUnreachable(
            f"a gateway answered {response.status_code} for {response.url}: no service behind it; is it running?"
        )
    error.request_id = error.request_id or request_id
    error.retry_after = parse_retry_after(response.headers.get("Retry-After"))
    return error


def _unreachable(http: httpx.AsyncClient, error: Exception, request_id: str) -> ServiceUnreachable:
    reason = str(error) or type(error).__name__
    proxy = through(str(http.base_url))
    way = f" through the proxy of {proxy}" if proxy else ""
    return ServiceUnreachable(
        f"no answer from {http.base_url}{way} ({reason}); is the service running and the address right?",
        request_id=request_id,
    )


def _too_late(deadline: Deadline, request_id: str) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"no answer within timeout={deadline.timeout:g} s; pass a larger timeout, or None to wait for ever",
        request_id=request_id,
    )
