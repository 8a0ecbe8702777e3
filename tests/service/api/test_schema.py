"""Whatever fits our OpenAPI document gets a documented answer, and none is a defect (schemathesis)."""

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance
from tests.budget import examples

from opera_client.errors import DeadlineExceeded, NotSupported
from opera_service.server.app import create_app
from opera_service.server.settings import Settings

from ..live import live

document = schemathesis.openapi.from_dict(create_app(Settings(engine="dummy")).openapi())
WAIT_S = 0.05
"""How long members of groups that nobody completes wait for the others."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A running service; its limits are small, so that what is generated reaches them."""
    limits = {"groups": 3, "trajectories": 8, "branches": 8, "request-tokens": 20_000}
    flags = [part for name, limit in limits.items() for part in (f"--max-{name}", str(limit))]
    with live("--engine", "dummy", *flags) as server:
        yield server.url


HONEST = {NotSupported.code, DeadlineExceeded.code}
"""Errors of 500 and more that are the truth: this engine cannot, or there was no time."""


def wait_little(case) -> None:
    """Shorten a wait for other members, where one is asked for or meant."""
    said = {"/reward/member": case.body, "/openrlhf/reward": case.query}.get(case.path)
    if isinstance(said, dict):
        try:
            long = float(said.get("wait_s", WAIT_S + 1)) > WAIT_S
        except (TypeError, ValueError):
            return  # no number: to be refused
        if long:
            said["wait_s"] = WAIT_S


@document.parametrize()
@settings(
    max_examples=examples(25),
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_documented_and_none_is_a_defect(case, url):
    wait_little(case)
    response = case.call(base_url=url)
    case.validate_response(
        response,
        checks=[status_code_conformance, response_schema_conformance],
        excluded_checks=[not_a_server_error],
    )
    if response.status_code >= 400:
        error = response.json()["error"]
        assert error["code"]
        assert error["message"]
        assert error["request_id"] == response.headers["x-request-id"][0]
    if response.status_code >= 500:
        assert error["code"] in HONEST, error
