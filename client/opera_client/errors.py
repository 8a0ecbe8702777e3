"""Every error a user of opera-reward can meet, and its one mapping to (HTTP status, code, retryable).

The server turns these into error bodies, the client turns bodies back into these.
    OperaError
    ├── RequestError                    the request as a whole is wrong; nothing was scored
    │   ├── InvalidRequest              422 invalid_request
    │   ├── MalformedBody               400 malformed_body
    │   ├── Unauthorized                401 unauthorized
    │   ├── Forbidden                   403 forbidden
    │   ├── NotFound                    404 not_found
    │   ├── MethodNotAllowed            405 method_not_allowed
    │   ├── LimitExceeded               413 it asks for more than one request may, by the code of each:
    │   │   └── BodyTooLarge, TooManyGroups, -Trajectories, -Items, -Branches, -Tokens
    │   ├── WeightVersionMismatch       409 weight_version_mismatch
    │   ├── WeightVersionTaken          409 weight_version_taken
    │   ├── InvalidWeights              422 invalid_weights
    │   ├── CanaryMismatch              422 canary_mismatch
    │   ├── MemberConflict              409 member_conflict
    │   └── IdempotencyKeyReused        422 idempotency_key_reused
    ├── ItemError                       one item is wrong; its neighbours are still scored
    │   ├── EmptyReference              422 empty_reference
    │   ├── EmptyResponse               422 empty_response
    │   ├── EmptyContext                422 empty_context
    │   ├── TokenOutOfVocabulary        422 token_out_of_vocabulary
    │   ├── ContextTooLong              422 context_too_long
    │   └── OutcomeUnavailable          422 outcome_unavailable
    ├── ServiceError                    the service could not do it
    │   ├── DeadlineExceeded            504 deadline_exceeded        retryable
    │   ├── GroupIncomplete             408 group_incomplete         retryable
    │   ├── PolicyBusy                  409 policy_busy              retryable
    │   ├── Overloaded                  429 overloaded               retryable (503 by the service's setting)
    │   ├── Unavailable                 503 unavailable              retryable
    │   ├── EngineOutOfMemory           503 engine_out_of_memory     retryable
    │   ├── EngineFailed                500 engine_failed            retryable
    │   ├── NotSupported                501 not_supported
    │   └── InternalError               500 internal_error
    └── ClientError                     seen by the client only
        ├── BadInput                    a command's own input: nothing was asked
        ├── ServiceUnreachable          no answer at all             retryable
        └── UnexpectedAnswer            an answer that is not ours
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar


class OperaError(Exception):
    """Base of all: a message that says what to do, and where the problem is."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, field: str | None = None, request_id: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        """Path of the offending field, such as `groups.0.reference`."""
        self.request_id = request_id
        self.retry_after: float | None = None
        """Seconds the service asked to wait before a retry."""

    def __str__(self) -> str:
        """Return code, message and field in one line."""
        where = f" (field {self.field})" if self.field else ""
        return f"{self.code}: {self.message}{where}"

    def body(self) -> dict[str, Any]:
        """Return the inside of an error body, as `ErrorDetail` of the wire describes it."""
        return {
            "code": self.code,
            "message": self.message,
            "retryable": self.retryable,
            "field": self.field,
            "request_id": self.request_id,
        }


class RequestError(OperaError):
    """The request as a whole is wrong; nothing was scored."""

    code, status = "invalid_request", 422


class InvalidRequest(RequestError):
    """A field is missing, unknown, of the wrong type or out of range."""


class MalformedBody(RequestError):
    """The body is not UTF-8 JSON."""

    code, status = "malformed_body", 400


class Unauthorized(RequestError):
    """The API key is missing or wrong."""

    code, status = "unauthorized", 401


class Forbidden(RequestError):
    """The caller is known, or needs not be, but may not do this."""

    code, status = "forbidden", 403


class NotFound(RequestError):
    """No such route, reward or model."""

    code, status = "not_found", 404


class MethodNotAllowed(RequestError):
    """The route exists, but not for this method."""

    code, status = "method_not_allowed", 405


class LimitExceeded(RequestError):
    """One request may not ask for so much; the field or message names the limit."""

    code, status = "limit_exceeded", 413


class BodyTooLarge(LimitExceeded):
    """The body is over the configured limit."""

    code = "body_too_large"


class TooManyGroups(LimitExceeded):
    """More groups than one request may hold."""

    code = "too_many_groups"


class TooManyTrajectories(LimitExceeded):
    """More trajectories than one request, or one group that gathers, may hold."""

    code = "too_many_trajectories"


class TooManyItems(LimitExceeded):
    """More items, or prompts, than one request may hold."""

    code = "too_many_items"


class TooManyBranches(LimitExceeded):
    """More candidates or branches than one item may have."""

    code = "too_many_branches"


class TooManyTokens(LimitExceeded):
    """More distinct tokens to compute than one request may have, or than the queue could ever hold."""

    code = "too_many_tokens"


class WeightVersionMismatch(RequestError):
    """The request names another weight version than the loaded one."""

    code, status = "weight_version_mismatch", 409


class WeightVersionTaken(RequestError):
    """A weight version names one set of weights for ever, and these are others."""

    code, status = "weight_version_taken", 409


class InvalidWeights(RequestError):
    """New weights do not fit the model or are broken; the old ones serve on. The message names the tensor."""

    code, status = "invalid_weights", 422


class CanaryMismatch(RequestError):
    """New weights fit, but do not give the number their sender sees; the old ones serve on."""

    code, status = "canary_mismatch", 422


class MemberConflict(RequestError):
    """The member contradicts what its group already holds: another text under its id, or no place left."""

    code, status = "member_conflict", 409


class IdempotencyKeyReused(RequestError):
    """The Idempotency-Key came before with another body."""

    code, status = "idempotency_key_reused", 422


class ItemError(OperaError):
    """One item is wrong; its neighbours are still scored."""

    code, status = "invalid_item", 422


class EmptyReference(ItemError):
    """The reference has no tokens."""

    code = "empty_reference"


class EmptyResponse(ItemError):
    """The response (or candidate, or target) has no tokens."""

    code = "empty_response"


class EmptyContext(ItemError):
    """There is nothing before the target to predict it from."""

    code = "empty_context"


class TokenOutOfVocabulary(ItemError):
    """A token id is not in the model's vocabulary."""

    code = "token_out_of_vocabulary"


class ContextTooLong(ItemError):
    """Context and target together exceed the model's length."""

    code = "context_too_long"


class OutcomeUnavailable(ItemError):
    """The reward needs a right/wrong outcome that could not be determined."""

    code = "outcome_unavailable"


class ServiceError(OperaError):
    """The service could not do it."""


class DeadlineExceeded(ServiceError):
    """The request's own deadline passed before it was scored."""

    code, status, retryable = "deadline_exceeded", 504, True


class GroupIncomplete(ServiceError):
    """The other members of the group did not come in time; this one keeps its place for a retry."""

    code, status, retryable = "group_incomplete", 408, True


class PolicyBusy(ServiceError):
    """Other weights are being loaded; one load goes on at a time."""

    code, status, retryable = "policy_busy", 409, True


class Overloaded(ServiceError):
    """A limit of work or memory is reached; `retry_after` says when to come back."""

    code, status, retryable = "overloaded", 429, True
    reason: str = "overloaded"
    """Which bound it was, for metrics."""


class Unavailable(ServiceError):
    """The service is starting, draining or without a working engine."""

    code, status, retryable = "unavailable", 503, True


class EngineOutOfMemory(ServiceError):
    """A tree did not fit into device memory, even in the smallest pieces."""

    code, status, retryable = "engine_out_of_memory", 503, True


class EngineFailed(ServiceError):
    """The engine raised something unexpected or returned numbers that are not finite."""

    code, status, retryable = "engine_failed", 500, True


class NotSupported(ServiceError):
    """This engine or model cannot do what was asked."""

    code, status = "not_supported", 501


class InternalError(ServiceError):
    """A defect of the service."""


class ClientError(OperaError):
    """Seen by the client only."""

    code, status = "client_error", 0


class BadInput(ClientError):
    """What a user gave a command cannot be used; the message is one line that names it and the remedy."""

    code = "bad_input"

    def __str__(self) -> str:
        """Return the line."""
        return self.message


class ServiceUnreachable(ClientError):
    """No answer at all: connection refused, reset, or timed out."""

    code, retryable = "service_unreachable", True


class UnexpectedAnswer(ClientError):
    """An answer that is not this service's."""

    code = "unexpected_answer"


def _subclasses(root: type[OperaError]) -> Iterator[type[OperaError]]:
    for child in root.__subclasses__():
        yield child
        yield from _subclasses(child)


def error_types() -> dict[str, type[OperaError]]:
    """Return the table code -> class of everything that travels in an error body."""
    groups = {OperaError, RequestError, LimitExceeded, ItemError, ServiceError}
    return {kind.code: kind for kind in _subclasses(OperaError) if kind not in groups and kind.status}


def error_from_body(body: object, *, status: int) -> OperaError:
    """Rebuild the error that a server's answer describes; anything else becomes `UnexpectedAnswer`."""
    detail = body.get("error") if isinstance(body, Mapping) else None
    if not isinstance(detail, Mapping) or not isinstance(detail.get("message"), str):
        return UnexpectedAnswer(f"HTTP {status} with a body that is not an opera-reward error: {str(body)[:200]}")
    kind = error_types().get(str(detail.get("code")), InternalError if status >= 500 else InvalidRequest)
    field, request_id = detail.get("field"), detail.get("request_id")
    return kind(
        detail["message"],
        field=field if isinstance(field, str) else None,
        request_id=request_id if isinstance(request_id, str) else None,
    )
