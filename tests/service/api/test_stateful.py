"""What the service remembers between requests, under random sequences of them: members, repeats, weights.

No OpenAPI links: nothing here is created under an id that a later path would name. What refers to earlier requests
(group_id, member_id, Idempotency-Key, weight_version) is in bodies and headers, so the machine is written by hand.
"""

from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, multiple, rule, run_state_machine_as_test
from safetensors.numpy import save
from tests.budget import examples

from ..live import live

PROMPT, REFERENCE = "What is 17 + 25?\n", "42"
TEXTS = st.sampled_from(["It is 42.", "Wait, 42.", "32", "", "<think>\nHmm.\n\n</think>\n\n42"])


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with live("--engine", "dummy", "--admin-keys", "admin", "--allow-open") as server:
        yield server.url


class Remembering(RuleBasedStateMachine):
    """A service and what its answers must be when the same is asked again."""

    url = ""
    run = 0
    members = Bundle("members")
    requests = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        Remembering.run += 1  # groups and keys of their own for every sequence; the service is the same
        self.http = httpx.Client(base_url=self.url, timeout=60)
        self.version = self.get("/policy").json()["weight_version"]
        self.keys = 0

    def teardown(self) -> None:
        self.http.close()

    def get(self, path: str) -> httpx.Response:
        answer = self.http.get(path, headers={"X-API-Key": "admin"})
        assert answer.status_code == 200, answer.text
        return answer

    def post(self, path: str, body: dict, *, headers: dict | None = None) -> httpx.Response:
        answer = self.http.post(path, json=body, headers=headers)
        assert answer.status_code < 500, answer.text
        return answer

    @rule(
        target=members, group=st.integers(0, 2), name=st.integers(0, 3), text=TEXTS,
        on_timeout=st.sampled_from(["partial", "error"]),
    )  # fmt: skip
    def send_member(self, group: int, name: int, text: str, on_timeout: str):
        body = {
            "run_id": str(self.run), "group_id": str(group), "group_size": 2 + group % 2, "member_id": str(name),
            "prompt": PROMPT, "reference": REFERENCE, "response": text, "wait_s": 0.01, "on_timeout": on_timeout,
        }  # fmt: skip
        answer = self.post("/reward/member", body)
        if answer.status_code == 200:
            assert answer.json()["model"]["weight_version"] in (self.version, *self.get_old())
            return (body, answer.json())
        assert answer.status_code in (408, 409, 422), answer.text
        assert answer.json()["error"]["code"] in ("group_incomplete", "member_conflict", "invalid_request")
        return multiple()

    def get_old(self) -> list[str]:
        """Versions that served before: an answer that was given stays as it was."""
        return [str(number) for number in range(int(self.version))]

    @rule(sent=members)
    def send_member_again(self, sent):
        body, first = sent
        answer = self.post("/reward/member", body)
        assert (answer.status_code, answer.json()) == (200, first)

    @rule(target=requests, texts=st.lists(TEXTS, min_size=1, max_size=3))
    def send_with_a_key(self, texts: list[str]):
        self.keys += 1
        key = {"Idempotency-Key": f"{self.run}-{self.keys}"}
        groups = [
            {"prompt": PROMPT, "reference": REFERENCE, "trajectories": [{"response": text} for text in texts]}
        ]
        answer = self.post("/reward", {"groups": groups}, headers=key)
        assert answer.status_code == 200, answer.text
        assert answer.json()["model"]["weight_version"] == self.version
        return (key, groups, answer.json())

    @rule(sent=requests)
    def send_with_the_same_key(self, sent):
        key, groups, first = sent
        answer = self.post("/reward", {"groups": groups}, headers=key)
        assert answer.status_code == 200, answer.text
        assert answer.json()["model"]["weight_version"] == self.version
        if first["model"]["weight_version"] == self.version:
            assert answer.json() == first

    @rule(sent=consumes(requests))
    def send_something_else_with_the_same_key(self, sent):
        key, groups, first = sent
        other = [{**groups[0], "reference": "43"}]
        answer = self.post("/reward", {"groups": other}, headers=key)
        if first["model"]["weight_version"] == self.version:
            assert (answer.status_code, answer.json()["error"]["code"]) == (422, "idempotency_key_reused")

    @rule(salt=st.integers(0, 12))
    def push_weights(self, salt: int):
        version = str(int(self.version) + 1)
        answer = self.http.put(
            "/policy/weights", content=save({"salt": np.array(salt)}),
            headers={"X-API-Key": "admin", "X-Weight-Version": version},
        )  # fmt: skip
        assert answer.status_code == 200, answer.text
        self.version = version

    @rule()
    def ask_for_weights_that_do_not_serve(self):
        groups = [{"prompt": PROMPT, "reference": REFERENCE, "trajectories": [{"response": "42"}]}]
        answer = self.post("/reward", {"groups": groups, "weight_version": f"not {self.version}"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "weight_version_mismatch")


def test_what_was_answered_stays_answered(url: str):
    Remembering.url = url
    run_state_machine_as_test(
        Remembering,
        settings=settings(
            max_examples=examples(20),
            stateful_step_count=15,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
