"""The clients and the command line against the service itself, on the dummy engine: over HTTP and in process."""

import json
import os
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from tests import forked

from opera_client import AsyncRewardClient, RewardClient
from opera_client.errors import ContextTooLong, InvalidRequest, NotFound, OperaError, WeightVersionMismatch
from opera_client.wire import RewardResult
from opera_service.server.app import create_app
from opera_service.server.settings import Settings

GROUPS = [
    {
        "group_id": f"g{n}",
        "prompt": f"What is {n} and {n}?",
        "reference": f"It is {2 * n}.",
        "trajectories": [
            {"response": f"<think>{n} and {n}.\n\nWait, that is {2 * n + k} for sure.</think>It is {2 * n + k}."}
            for k in range(3)
        ],
    }
    for n in range(7)
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    app = create_app(Settings(engine="dummy", cache_mb=0))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the service did not start"
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def here() -> Iterator[RewardClient]:
    with RewardClient.in_process(engine="dummy", cache_mb=0) as client:
        yield client


def numbers(result: RewardResult) -> dict:
    return result.model_dump(exclude={"timing_ms", "usage"})


def test_branches_in_chunks_equal_branches_at_once(here, url):
    items = [{"prompt": f"What is {n} and {n}?", "seed": n, "max_tokens": 8, "stop": ["a"]} for n in range(5)]
    items.append({"prompt": "", "max_tokens": 8})
    whole = here.expand(items)
    with RewardClient(url, max_items=2) as client:
        parts = client.expand(items)
    assert parts.items[:5] == whole.items[:5]
    assert [item.id for item in parts.items] == [str(n) for n in range(6)]
    assert parts.items[5].error.field == "items.5.prompt"
    assert parts.usage.generated_tokens == whole.usage.generated_tokens > 0


@pytest.mark.parametrize("preset", ["hardened", "paper"])
@pytest.mark.parametrize("detail", ["reward", "segments", "tokens"])
def test_in_process_equals_over_http_whole_or_in_chunks(here, url, preset, detail):
    expected = here.reward(GROUPS, preset=preset, detail=detail)
    assert all(reward is not None for rewards in expected.rewards for reward in rewards)
    with RewardClient(url) as whole, RewardClient(url, max_items=2, concurrency=3) as chunked:
        for client in (whole, chunked):
            result = client.reward(GROUPS, preset=preset, detail=detail)
            assert numbers(result) == numbers(expected)
            assert result.usage == expected.usage


async def test_the_async_client_answers_the_same(here, url):
    async with AsyncRewardClient(url) as client:
        assert numbers(await client.reward(GROUPS)) == numbers(here.reward(GROUPS))
    async with AsyncRewardClient.in_process(engine="dummy") as client:
        assert numbers(await client.reward(GROUPS)) == numbers(here.reward(GROUPS))


def test_rank_and_score_and_what_is_loaded(here, url):
    items = [
        {"prompt": "p", "candidates": ["a", "bb", "a"], "by": by} for by in ("branch", "branch_sum", "sequence")
    ]
    targets = [{"context": "c", "target": "tt", "entropy": True}, {"context": "c", "target": ""}]
    with RewardClient(url, max_items=1) as client:
        ranked, scored = client.rank(items), client.score(targets, detail="tokens")
        assert ranked.items == here.rank(items).items
        assert scored.items == here.score(targets, detail="tokens").items
        assert client.model() == here.model()
        assert client.rewards() == here.rewards()
        assert client.health().status == "ok"
    assert [item.status for item in scored.items] == ["ok", "error"]
    assert scored.items[0].sum_logprob == pytest.approx(sum(scored.items[0].token_logprobs))
    assert {"opera"} <= {reward.name for reward in here.rewards().rewards}


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"reward": "no such"}, (NotFound, InvalidRequest)),
        ({"preset": "no such"}, (NotFound, InvalidRequest)),
        ({"config": {"no_such": 1}}, InvalidRequest),
        ({"weight_version": "no such"}, WeightVersionMismatch),
    ],
)
def test_refusals_have_the_same_type_both_ways(here, url, options, kind):
    with RewardClient(url) as client:
        for asked in (client, here):
            with pytest.raises(kind) as caught:
                asked.reward(GROUPS, **options)
            assert isinstance(caught.value, OperaError)
            assert caught.value.request_id


def test_one_bad_trajectory_spoils_nothing(here):
    long = {"response_token_ids": [1] * 900_000}
    bad = [{**GROUPS[0], "trajectories": [*GROUPS[0]["trajectories"], {"response": ""}, long]}]
    result = here.reward(bad)
    assert [t.status for t in result.groups[0].trajectories] == ["ok"] * 3 + ["error"] * 2
    codes = [t.error.code for t in result.groups[0].trajectories if t.error]
    assert codes == ["empty_response", ContextTooLong.code]


def test_a_setting_that_does_not_exist_is_refused_by_name():
    with pytest.raises(InvalidRequest) as caught, RewardClient.in_process(engine="dummy", speed=3):
        pass
    assert caught.value.field == "speed"


def test_the_command_line_writes_the_same_both_ways_and_its_tables(url, tmp_path):
    file = tmp_path / "in.jsonl"
    file.write_text("".join(json.dumps(group) + "\n" for group in GROUPS))
    env = {k: v for k, v in os.environ.items() if not k.startswith("OPERA_")}
    for name, where in (("http", ["--url", url]), ("here", ["--engine", "dummy"])):
        page = ["--plot", tmp_path / f"{name}.html"]
        done = forked.run("score", file, *where, "-o", tmp_path / name, *page, env=env)
        assert done.returncode == 0, done.stderr
        assert "Wait, that is 12" in (tmp_path / f"{name}.html").read_text(encoding="utf-8")
    assert (tmp_path / "http").read_bytes() == (tmp_path / "here").read_bytes()


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--engine", "steam"], "steam"),
        (["--model", "/no/such/folder"], "/no/such/folder"),
        (["--engine", "dummy", "--reward", "no-such"], "no-such"),
        (["--engine", "dummy", "--config", "no_such=1"], "no_such"),
    ],
)
def test_what_cannot_run_here_is_2_in_one_line(tmp_path, options, what):
    file = tmp_path / "in.jsonl"
    file.write_text(json.dumps(GROUPS[0]) + "\n")
    env = {k: v for k, v in os.environ.items() if not k.startswith("OPERA_")}
    done = forked.run("score", file, *options, env=env)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert what in done.stderr
