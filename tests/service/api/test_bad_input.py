"""Whatever is sent, the answer is an error with code, field and remedy, and the good items are still scored."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from opera_client.errors import error_types
from opera_service.api import body as bodies

from ..app import opened
from .conftest import group


def error_of(response: httpx.Response) -> dict:
    """The error in the body, after checking that it has the one form all errors have."""
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert set(error) == {"code", "message", "retryable", "field", "request_id"}
    assert response.status_code == error_types()[error["code"]].status
    assert len(error["message"]) > 10
    assert error["request_id"] == response.headers["X-Request-Id"]
    return error


async def post(client: httpx.AsyncClient, body: object, path: str = "/reward") -> httpx.Response:
    response = await client.post(path, content=body if isinstance(body, bytes) else json.dumps(body))
    after = await client.post("/reward", json={"groups": [group()]})
    assert after.status_code == 200, "the server must keep serving"
    return response


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"groups": [group()], "colour": 1}, "colour"),
        ({"groups": [group(colour=1)]}, "groups.0.colour"),
        ({"groups": [group(), group(group_id="q2", trajectories=[{"response": "x", "reward": 1}])]},
         "groups.1.trajectories.0.reward"),
        ({"groups": [group(trajectories=[{"response": 5}])]}, "groups.0.trajectories.0.response"),
        ({"groups": [group(trajectories=[{"response_token_ids": [1, 2, "3"]}])]},
         "groups.0.trajectories.0.response_token_ids.2"),
        ({"groups": [group(trajectories=[{"response_token_ids": [1, -2]}])]},
         "groups.0.trajectories.0.response_token_ids.1"),
        ({"groups": [group(trajectories=[{"response_token_ids": [2**40]}])]},
         "groups.0.trajectories.0.response_token_ids.0"),
        ({"groups": [group(trajectories=[{"response_token_ids": [1.5]}])]},
         "groups.0.trajectories.0.response_token_ids.0"),
        ({"groups": [group(trajectories=[])]}, "groups.0.trajectories"),
        ({"groups": [group(trajectories=[{"id": "a"}])]}, "groups.0.trajectories.0"),
        ({"groups": [group(trajectories=[{"id": "a", "response": "x"}, {"id": "a", "response": "y"}])]},
         "groups.0"),
        ({"groups": [group(prompt=7)]}, "groups.0.prompt"),
        ({"groups": [group(prompt=[{"role": "user"}])]}, "groups.0.prompt.0.content"),
        ({"groups": [group(prompt=None)]}, "groups.0"),
        ({"groups": [group(reference=None)]}, "groups.0.reference"),
        ({"groups": [group(task="poem")]}, "groups.0.task"),
        ({"groups": [group(), group()]}, "groups.1.group_id"),
        ({"groups": []}, "groups"),
        ({"groups": {}}, "groups"),
        ({}, "groups"),
        ([], None),
        ("text", None),
        ({"groups": [group()], "reward": "gold"}, "reward"),
        ({"groups": [group()], "preset": "soft"}, "preset"),
        ({"groups": [group()], "config": {"segmnt": {}}}, "config.segmnt"),
        ({"groups": [group()], "config": {"segment": {"min_tokens": "few"}}}, "config.segment.min_tokens"),
        ({"groups": [group()], "reward": "sum"}, "config.rewards"),
        ({"groups": [group()], "rewards": 5}, "rewards"),
        ({"groups": [group()], "rewards": "opera"}, "rewards"),
        ({"groups": [group()], "rewards": [5]}, "rewards.0"),
        ({"groups": [group()], "rewards": [{"name": "opera"}], "preset": "soft"}, "rewards.0.preset"),
        ({"groups": [group()], "timeout_s": -1}, "timeout_s"),
        ({"groups": [group()], "detail": "all"}, "detail"),
        ({"groups": [group()], "step": 1.5}, "step"),
    ],
)  # fmt: skip
async def test_a_wrong_field_is_named(client: httpx.AsyncClient, body: object, field: str | None):
    response = await post(client, body)
    error = error_of(response)
    assert (response.status_code, error["code"], error["retryable"]) == (422, "invalid_request", False)
    assert error["field"] == field


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/rank", {"items": [{"prompt": "p", "candidates": ["a", 5]}]}, "items.0.candidates.1"),
        ("/rank", {"items": [{"prompt": "p", "candidates": [{"token_ids": ["x"]}]}]},
         "items.0.candidates.0.token_ids.0"),
        ("/rank", {"items": [{"prompt": "p", "candidates": [{}]}]}, "items.0.candidates.0.token_ids"),
        ("/rank", {"items": [{"prompt": "p", "candidates": []}]}, "items.0.candidates"),
        ("/rank", {"items": [{"prompt": "p", "candidates": ["a"], "by": "luck"}]}, "items.0.by"),
        ("/rank", {"items": [{"prompt": "p", "candidates": ["a"], "by": "reference"}]}, "items.0"),
        ("/score", {"items": [{"context": "c", "target": ["t"]}]}, "items.0.target"),
        ("/score", {"items": [{"context": "c"}]}, "items.0"),
        ("/score", {"items": [{"context": "c", "context_token_ids": [1], "target": "t"}]}, "items.0"),
        ("/score", {"items": [{"context": "c", "target": "t", "target_token_ids": [1]}]}, "items.0"),
        ("/score", {"items": [{"context": "c", "target": "t", "other_contexts":
                               [{"name": "a", "context": "d", "context_token_ids": [1]}]}]},
         "items.0.other_contexts.0"),
        ("/v1/completions", {"prompt": ["a", 3]}, "prompt.1"),
        ("/v1/completions", {"prompt": [[1, "b"]]}, "prompt.0.1"),
        ("/v1/completions", {"prompt": [], "max_tokens": 0}, "prompt"),
        ("/v1/completions", {"prompt": "a", "logprobs": 99}, "logprobs"),
        ("/reward/member", {"group_id": "g", "group_size": 1, "member_id": "m", "prompt": "p", "response": "r",
                            "rewards": 5}, "rewards"),
        ("/tokenize", {"text": "a"}, "text"),
        ("/detokenize", {"tokens": "a"}, "tokens"),
    ],
)  # fmt: skip
async def test_a_wrong_field_of_another_route_is_named(
    client: httpx.AsyncClient, path: str, body: object, field: str
):
    error = error_of(await post(client, body, path))
    assert (error["code"], error["field"]) == ("invalid_request", field)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe{}",
        b'{"groups": [{"prompt": "\xe9"}]}',
        b'{"groups": [], "timeout_s": NaN}',
        b'{"groups": [], "timeout_s": Infinity}',
        b"groups=1&x=2",
    ],
)
async def test_what_is_no_json_is_malformed(client: httpx.AsyncClient, body: bytes):
    for path in ("/reward", "/rank", "/score", "/v1/completions", "/tokenize"):
        error = error_of(await post(client, body, path))
        # Reading ends at the first thing that is wrong: for other routes that may be the unknown field `groups`.
        assert error["code"] == "malformed_body" or (path != "/reward" and error["field"] == "groups")


@pytest.mark.parametrize(
    ("path", "body", "field", "meant"),
    [
        ("/reward", {"groups": [group(refrence="x")]}, "groups.0.refrence", "did you mean `reference`?"),
        ("/reward", {"groups": [group()], "presett": "paper"}, "presett", "did you mean `preset`?"),
        ("/reward/hint", {"group_id": "g", "member_id": "m", "seq": 0, "append": {"token_idz": [1]}},
         "append.token_idz", "did you mean `token_ids`?"),
    ],
)  # fmt: skip
async def test_a_field_that_is_none_is_told_which_one_is_like_it(
    client: httpx.AsyncClient, path: str, body: object, field: str, meant: str
):
    error = error_of(await post(client, body, path))
    assert error["field"] == field
    assert error["message"].partition(" (")[0] == f"is no field here; {meant}"


async def test_a_number_too_large_for_json_is_refused(client: httpx.AsyncClient):
    response = await post(client, b'{"groups": [], "timeout_s": 1e999}')
    assert response.status_code in (400, 422)
    error_of(response)


def statuses(answer: dict) -> list[list[str]]:
    """Status or error code, group by group."""
    return [
        [one["error"]["code"] if one["status"] == "error" else "ok" for one in found["trajectories"]]
        for found in answer["groups"]
    ]


async def test_bad_trajectories_have_their_own_errors_and_good_ones_are_scored(client: httpx.AsyncClient):
    bad = [
        {"id": "empty", "response": ""},
        {"id": "no ids", "response_token_ids": []},
        {"id": "outside", "response_token_ids": [1, 2, 100_000]},
        {"id": "long", "response": "word " * 20_000},
    ]
    response = await post(client, {"groups": [group(trajectories=group()["trajectories"] + bad)]})
    assert response.status_code == 200
    assert statuses(response.json()) == [
        ["ok", "ok", "empty_response", "empty_response", "token_out_of_vocabulary", "context_too_long"]
    ]
    (found,) = response.json()["groups"]
    assert (found["size"], found["scored"]) == (6, 2)
    for one, field in zip(
        found["trajectories"][2:],
        ["response", "response_token_ids", "response_token_ids", "response"],
        strict=True,
    ):
        assert one["reward"] is None
        assert one["components"] is None
        position = found["trajectories"].index(one)
        assert one["error"]["field"] == f"groups.0.trajectories.{position}.{field}"
        assert one["error"]["retryable"] is False

    alone = (await post(client, {"groups": [group()]})).json()["groups"][0]["trajectories"]
    assert found["trajectories"][:2] == alone, "bad neighbours must not change a reward"


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"reference": ""}, "empty_reference", "groups.0.reference"),
        ({"reference": " \n"}, "empty_reference", "groups.0.reference"),
        ({"reference": None, "reference_token_ids": []}, "empty_reference", "groups.0.reference"),
        ({"prompt": ""}, "empty_context", "groups.0.prompt"),
        ({"prompt": None, "prompt_token_ids": [999]}, "token_out_of_vocabulary", "groups.0.prompt_token_ids"),
        ({"reference": "x" * 40_000}, "context_too_long", "groups.0"),
    ],
)
async def test_a_bad_group_spoils_no_other(client: httpx.AsyncClient, change: dict, code: str, field: str):
    response = await post(client, {"groups": [group(group_id="bad", **change), group()]})
    assert response.status_code == 200
    assert statuses(response.json()) == [[code, code], ["ok", "ok"]]
    bad, good = response.json()["groups"]
    assert (bad["scored"], bad["initial_mean_logprob"]) == (0, None)
    assert bad["trajectories"][0]["error"]["field"].startswith(field)
    alone = (await post(client, {"groups": [group()]})).json()
    assert good == alone["groups"][0]


async def test_a_request_of_bad_items_only_is_answered_item_by_item(client: httpx.AsyncClient):
    response = await post(client, {"groups": [group(reference="")]})
    assert response.status_code == 200
    assert statuses(response.json()) == [["empty_reference", "empty_reference"]]
    usage = response.json()["usage"]
    assert {name: usage.pop(name) for name in ("route", "route_reason")} == {"route": "table", "route_reason": ""}
    assert set(usage.values()) == {0}


async def test_ten_megabytes_of_text_are_an_item_error(client: httpx.AsyncClient):
    huge = group(group_id="huge", trajectories=[{"response": "Wait. " * 1_750_000}])
    response = await post(client, {"groups": [huge, group()]})
    assert response.status_code == 200
    assert statuses(response.json()) == [["context_too_long"], ["ok", "ok"]]


async def test_a_body_over_the_limit_is_refused(client: httpx.AsyncClient):
    async with opened(max_body_mb=0.01) as small:
        response = await post(small, {"groups": [group(prompt="x" * 11_000)]})
        assert (response.status_code, error_of(response)["code"]) == (413, "body_too_large")

        async def unannounced():
            for _ in range(100):
                yield b"x" * 1000

        streamed = await small.post("/reward", content=unannounced())
        assert (streamed.status_code, error_of(streamed)["code"]) == (413, "body_too_large")


async def test_bad_items_of_score_and_rank_have_their_own_errors(client: httpx.AsyncClient):
    good = {"context": "17 + 25 = ", "target": "42"}
    items = [
        good,
        {"context": "", "target": "x"},
        {"context": "c", "target": ""},
        {"context": "c", "target_token_ids": [999]},
    ]
    scored = (await post(client, {"items": items}, "/score")).json()["items"]
    assert [one["status"] for one in scored] == ["ok", "error", "error", "error"]
    assert [one["error"]["code"] for one in scored[1:]] == [
        "empty_context",
        "empty_response",
        "token_out_of_vocabulary",
    ]
    assert [one["error"]["field"] for one in scored[1:]] == [
        "items.1.context", "items.2.target", "items.3.target_token_ids",
    ]  # fmt: skip
    assert scored[0] == (await post(client, {"items": [good]}, "/score")).json()["items"][0]

    ranked = await post(
        client,
        {
            "items": [
                {"prompt": "p", "candidates": ["Wait", "", {"token_ids": [999]}, "But"]},
                {"prompt": "", "candidates": ["x"]},
            ]
        },
        "/rank",
    )
    first, second = ranked.json()["items"]
    assert first["status"] == "ok"
    assert sorted(first["ranking"]) == [0, 3]
    assert [one["error"] and one["error"]["code"] for one in first["candidates"]] == [
        None, "empty_response", "token_out_of_vocabulary", None,
    ]  # fmt: skip
    assert [one["rank"] is None for one in first["candidates"]] == [False, True, True, False]
    assert (second["status"], second["ranking"], second["error"]["code"]) == ("error", [], "empty_context")


async def test_unknown_routes_and_methods_are_errors_of_ours(client: httpx.AsyncClient):
    missing = await client.get("/rewrad")
    assert (missing.status_code, error_of(missing)["code"]) == (404, "not_found")
    wrong = await client.get("/reward")
    assert (wrong.status_code, error_of(wrong)["code"], wrong.headers["Allow"]) == (
        405,
        "method_not_allowed",
        "POST",
    )


async def test_what_cannot_be_judged_is_an_error_of_that_trajectory(client: httpx.AsyncClient):
    trajectories = [
        {"id": "empty", "response": ""},
        {"id": "right", "response": r"<think>t</think>\boxed{7}"},
        {"id": "endless", "response": rf"<think>t</think>\boxed{{{'1+' * 6000}1}}"},
        {"id": "wrong", "response": r"<think>t</think>\boxed{8}"},
    ]
    response = await post(client, {"groups": [group(task="math", reference="7", trajectories=trajectories)]})
    assert statuses(response.json()) == [["empty_response", "ok", "outcome_unavailable", "ok"]]
    found = response.json()["groups"][0]["trajectories"]
    assert [one["id"] for one in found] == ["empty", "right", "endless", "wrong"]
    assert found[1]["reward"] > found[3]["reward"] == 0.0
    assert found[2]["reward"] is None


async def test_a_body_that_does_not_come_is_an_error_in_the_end(client: httpx.AsyncClient, monkeypatch):
    monkeypatch.setattr(bodies, "PATIENCE_S", 0.05)

    async def dawdling() -> AsyncIterator[bytes]:
        yield b'{"groups": '
        await asyncio.sleep(30)

    error = error_of(await client.post("/reward", content=dawdling()))
    assert error["code"] == "deadline_exceeded"
    assert error["retryable"]


@pytest.mark.parametrize("half", ["\\ud83d", "\\uDE00", "\\ude00\\ud83d"])
async def test_half_a_character_spoils_its_own_trajectory_only(client: httpx.AsyncClient, half: str):
    whole = group()
    whole["trajectories"] += [
        {"id": "half", "response": "<think>\nx HALF\n</think>\n\n42"},
        {"id": "whole", "response": "<think>\nx PAIR BACKSLASHES\n</think>\n\n42"},
    ]
    body = json.dumps({"groups": [whole]}).replace("HALF", half).replace("PAIR", "\\ud83d\\ude00")
    response = await client.post("/reward", content=body.replace("BACKSLASHES", "\\\\ud83d").encode())
    assert response.status_code == 200
    results = {one["id"]: one for one in response.json()["groups"][0]["trajectories"]}
    assert [name for name, one in results.items() if one["status"] == "error"] == ["half"]
    assert "half of a character" in results["half"]["error"]["message"]
    assert results["half"]["error"]["field"] == "groups.0.trajectories.2.response"


async def test_half_a_character_elsewhere_names_its_field(client: httpx.AsyncClient):
    for name in ("prompt", "reference"):
        body = json.dumps({"groups": [group(**{name: "a HALF"})]}).replace("HALF", "\\ud83d")
        answer = (await client.post("/reward", content=body.encode())).json()
        errors = [one["error"] for one in answer["groups"][0]["trajectories"]]
        assert {error["field"] for error in errors} == {f"groups.0.{name}"}
