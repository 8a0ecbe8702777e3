"""Hints from plain code; those of the asynchronous client are tested with the service's route."""

import json
import time

import httpx
import pytest

from opera_client import RewardClient
from opera_client.errors import InvalidRequest


def test_plain_code_hints_without_waiting_and_wrong_parts_are_told():
    seen: list[dict] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(json.loads(request.content))
        return httpx.Response(202, json={"accepted": True})

    with RewardClient("http://there", transport=httpx.MockTransport(answer)) as client:
        stream = client.hints(group_id="g", member_id="m", prompt="p", reference="r")
        stream.add([1, 2])
        with pytest.raises(InvalidRequest, match="token_ids"):
            stream.add()
        with pytest.raises(InvalidRequest) as caught:
            stream.add(["x"])  # type: ignore[list-item]
        assert caught.value.field == "token_ids.0"
        stream.add([3])
        until = time.monotonic() + 60
        while sum(len(one["append"]["token_ids"]) for one in seen) < 3 and time.monotonic() < until:
            time.sleep(0.005)
        stream.close()
    assert [token for one in seen for token in one["append"]["token_ids"]] == [1, 2, 3]
    assert [one["seq"] for one in seen] == list(range(len(seen)))
    assert (seen[0]["prompt"], seen[0]["reference"]) == ("p", "r")
