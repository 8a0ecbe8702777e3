"""One request against a service that fails in chosen ways: what is raised, what is repeated, for how long."""

import json
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from tests.client.toy import Service, group, refusal

from opera_client import AsyncRewardClient
from opera_client.errors import (
    BodyTooLarge,
    DeadlineExceeded,
    EngineOutOfMemory,
    InternalError,
    InvalidRequest,
    NotSupported,
    OperaError,
    ServiceUnreachable,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
    WeightVersionMismatch,
)

GROUPS = [group("a", "bb")]


def client_of(service: Service, **options: object) -> AsyncRewardClient:
    return AsyncRewardClient.in_process(service, options={"timeout": 20.0, **options})


async def error_of(client: AsyncRewardClient) -> OperaError:
    with pytest.raises(OperaError) as caught:
        await client.reward(GROUPS)
    return caught.value


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 507, 599])
async def test_a_passing_failure_is_repeated_under_the_same_request_id(service, status):
    service.script = [refusal(status, "whatever"), refusal(status, "whatever")]
    async with client_of(service) as client:
        result = await client.reward(GROUPS, request_id="mine")
    assert result.rewards == [[0.01, 0.02]]
    assert [h["x-request-id"] for h in service.headers] == ["mine"] * 3


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "malformed_body", OperaError),
        (401, "unauthorized", Unauthorized),
        (404, "not_found", OperaError),
        (409, "weight_version_mismatch", WeightVersionMismatch),
        (413, "body_too_large", BodyTooLarge),
        (418, "of_a_later_version", InvalidRequest),
        (422, "invalid_request", InvalidRequest),
        (501, "not_supported", NotSupported),
    ],
)
async def test_a_refusal_is_raised_at_once_as_its_own_type(service, status, code, kind):
    service.script = [refusal(status, code, field="groups.0.reference", request_id="theirs")]
    async with client_of(service) as client:
        error = await error_of(client)
    assert isinstance(error, kind)
    assert (error.field, error.request_id) == ("groups.0.reference", "theirs")
    assert len(service.seen) == 1


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (500, "internal_error", InternalError),
        (503, "unavailable", Unavailable),
        (503, "engine_out_of_memory", EngineOutOfMemory),
    ],
)
async def test_a_lasting_failure_is_raised_as_its_own_type_after_the_retries(service, status, code, kind):
    service.script = [refusal(status, code)] * 10
    async with client_of(service, retries=2) as client:
        error = await error_of(client)
    assert isinstance(error, kind)
    assert len(service.seen) == 3


async def test_retry_after_is_waited_for_and_does_not_count_as_a_failure(service):
    service.script = [refusal(429, "overloaded", {"Retry-After": "0.3"})] * 2
    start = time.monotonic()
    async with client_of(service, retries=0) as client:
        await client.reward(GROUPS)
    assert time.monotonic() - start >= 0.6
    assert len(service.seen) == 3


async def test_waiting_on_request_leaves_the_retries_for_real_failures(service):
    service.script = [refusal(429, "overloaded", {"Retry-After": "0"})] * 3 + [refusal(500, "internal_error")]
    async with client_of(service, retries=1) as client:
        await client.reward(GROUPS)
    assert len(service.seen) == 5


async def test_retry_after_as_a_date_is_waited_for(service):
    # An HTTP date has whole seconds: two seconds ahead is at least one second away.
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    service.script = [refusal(503, "unavailable", {"Retry-After": later})]
    start = time.monotonic()
    async with client_of(service, retries=0) as client:
        await client.reward(GROUPS)
    assert time.monotonic() - start >= 0.9


async def test_a_retry_after_beyond_the_deadline_raises_at_once(service):
    service.script = [refusal(429, "unavailable", {"Retry-After": "3600"})]
    async with client_of(service, timeout=30.0) as client:
        error = await error_of(client)
    assert error.retry_after == 3600.0
    assert len(service.seen) == 1


async def test_one_deadline_covers_all_attempts(service):
    service.delay = lambda: 0.3
    service.script = [refusal(503, "unavailable", {"Retry-After": "0"})] * 1000
    async with client_of(service, timeout=3.0) as client:
        error = await error_of(client)
    assert isinstance(error, (DeadlineExceeded, Unavailable))
    assert 2 <= len(service.seen) <= 11, "each attempt takes 0.3 s of the three"


async def test_a_slow_answer_is_too_late_and_says_what_to_do(service):
    service.delay = lambda: 5.0
    async with client_of(service, timeout=1.0) as client:
        error = await error_of(client)
    assert isinstance(error, DeadlineExceeded)
    assert "larger timeout" in error.message
    assert service.seen[0]["timeout_s"] <= 1.0


async def test_without_a_timeout_none_is_sent(service):
    async with client_of(service, timeout=None) as client:
        await client.reward(GROUPS)
    assert "timeout_s" not in service.seen[0]


async def test_a_broken_connection_is_tried_again():
    attempts = []

    def handle(request: httpx.Request) -> httpx.Response:
        attempts.append(request)
        if len(attempts) < 3:
            raise httpx.ReadError("connection reset", request=request)
        return httpx.Response(200, json={"status": "ok"})

    async with AsyncRewardClient("http://there", transport=httpx.MockTransport(handle)) as client:
        assert (await client.health()).status == "ok"
    assert len(attempts) == 3


async def test_nobody_at_the_address_is_unreachable():
    async with AsyncRewardClient("http://127.0.0.1:9", retries=1) as client:
        error = await error_of(client)
    assert isinstance(error, ServiceUnreachable)
    assert "127.0.0.1:9" in error.message


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://there", "http://", "http://there:port", "there"])
def test_an_address_that_is_none_is_refused_by_name(url):
    with pytest.raises(InvalidRequest) as caught:
        AsyncRewardClient(url)
    assert caught.value.field == "url"


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_gateways_own_page_means_no_service_behind_it(service, status):
    service.script = [(status, {}, b"<html>Bad Gateway</html>")] * 3
    async with client_of(service, retries=1) as client:
        assert isinstance(await error_of(client), ServiceUnreachable)


@pytest.mark.parametrize(
    "body",
    [
        b"hello",
        b"{}",
        b"[]",
        b'"\xff"',
        b'{"error": {"code": "x"}}',
    ],
)
@pytest.mark.parametrize("status", [200, 404, 500])
async def test_a_strangers_answer_is_unexpected(service, status, body):
    service.script = [(status, {}, body)] * 2
    async with client_of(service, retries=1) as client:
        assert isinstance(await error_of(client), UnexpectedAnswer)


async def test_an_app_that_crashes_answers_500_as_behind_a_port(service):
    service.script = [lambda: RuntimeError("boom")] * 2
    async with client_of(service, retries=1) as client:
        assert isinstance(await error_of(client), UnexpectedAnswer)
    assert len(service.seen) == 2


async def test_health_of_a_starting_service_is_an_answer(service):
    body = json.dumps({"status": "starting", "detail": "loading weights"}).encode()
    service.script = [(503, {}, body)]
    async with client_of(service) as client:
        assert (await client.health()).detail == "loading weights"


async def test_key_and_headers_travel(service, monkeypatch):
    async with client_of(service, api_key="k1", headers={"X-Team": "blue"}) as client:
        await client.health()
    monkeypatch.setenv("OPERA_API_KEY", "k2")
    async with client_of(service) as client:
        await client.health()
    assert [h.get("authorization") for h in service.headers] == ["Bearer k1", "Bearer k2"]
    assert service.headers[0]["x-team"] == "blue"


def test_the_address_comes_from_the_environment(monkeypatch):
    assert AsyncRewardClient().url == "http://127.0.0.1:8000"
    monkeypatch.setenv("OPERA_REWARD_URL", "http://there:1/")
    assert AsyncRewardClient().url == "http://there:1"
    assert AsyncRewardClient("http://here").url == "http://here"


@pytest.mark.parametrize(
    "options", [{"max_items": 0}, {"max_bytes": 0}, {"concurrency": 0}, {"timeout": 0}, {"timeout": -1.0}]
)
def test_limits_that_cannot_work_are_refused_by_name(options):
    with pytest.raises(InvalidRequest) as caught:
        AsyncRewardClient("http://there", **options)
    assert caught.value.field == next(iter(options))
