"""The policy's weights over HTTP: replaced whole or not at all, every number of the version it names."""

import asyncio
import hashlib
import math
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path

import httpx
import numpy as np
import pytest
from safetensors.numpy import save

from opera_client.wire import PolicyInfo, PolicyLoadResult
from opera_service.engines.dummy import DummyEngine
from opera_service.trajectories.byte_tokenizer import ByteTokenizer

from ..app import on, opened
from ..until import until
from .conftest import group
from .table import VOCAB


def salted(salt: int) -> bytes:
    """The dummy engine's weights."""
    return save({"salt": np.array(salt, dtype=np.int64)})


async def push(client: httpx.AsyncClient, version: str, body: bytes, **headers: str) -> httpx.Response:
    return await client.put("/policy/weights", content=body, headers={"X-Weight-Version": version, **headers})


def refusal(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def mean_logprob(ids: list[int], salt: int) -> float:
    """The canary on the dummy engine, from the documentation of its table."""
    found = []
    for previous, token in pairwise(ids):
        row = [1 + ((previous + 1) * (other + 1) + salt) % 13 for other in range(VOCAB)]
        found.append(math.log(row[token] / sum(row)))
    return sum(found) / len(found)


async def scores(client: httpx.AsyncClient, **changes) -> tuple[str, object]:
    """The version that an answer names, and every number in it."""
    answer = (await client.post("/reward", json={"groups": [group()], "detail": "tokens", **changes})).json()
    return answer["model"]["weight_version"], answer["groups"]


async def test_the_policy_describes_itself(client: httpx.AsyncClient):
    policy = PolicyInfo.model_validate((await client.get("/policy")).json())
    assert (policy.name, policy.revision, policy.weight_version) == ("dummy", "bigram-13", "0")
    assert policy.loaded_at.tzinfo is not None
    assert bytes(policy.canary.token_ids).decode() == policy.canary.text
    assert policy.canary.mean_logprob == pytest.approx(mean_logprob(policy.canary.token_ids, 0))


async def test_pushed_weights_change_every_number_to_a_fresh_services(client: httpx.AsyncClient):
    before = await scores(client)
    response = await push(client, "step-1", salted(5))
    result = PolicyLoadResult.model_validate(response.json())
    assert (result.weight_version, result.previous_version, result.changed) == ("step-1", "0", True)
    assert result.revision == f"sha256:{hashlib.sha256(salted(5)).hexdigest()}"
    ids = result.canary.token_ids
    assert result.canary_before == pytest.approx(mean_logprob(ids, 0))
    assert result.canary.mean_logprob == pytest.approx(mean_logprob(ids, 5))
    assert (await client.get("/policy")).json()["canary"] == response.json()["canary"]
    after = await scores(client)
    assert (before[0], after[0]) == ("0", "step-1")
    async with opened() as fresh:
        await push(fresh, "other", salted(5))
        assert (await scores(fresh))[1] == after[1] != before[1]
    assert (await client.get("/model")).json()["revision"] == result.revision


async def test_a_request_for_other_weights_is_refused(client: httpx.AsyncClient):
    await push(client, "1", salted(1))
    old = await client.post("/reward", json={"groups": [group()], "weight_version": "0"})
    assert refusal(old) == (409, "weight_version_mismatch")
    assert (await scores(client, weight_version="1"))[0] == "1"


BAD = {
    "nothing": (b"", "no safetensors file"),
    "no header": (b"\xff" * 100, "no safetensors file"),
    "no json": (b"\x05\0\0\0\0\0\0\0{nope", "not JSON"),
    "nested": (b"\xa0\x86\x01\0\0\0\0\0" + b"[" * 100_000, "not JSON"),
    "cut short": (salted(3)[:-3], "cut short inside tensor 'salt'"),
    "longer": (salted(3) + b"x", "behind its last tensor"),
    "missing": (save({}), "'salt' is missing"),
    "unexpected": (save({"salt": np.array(1), "pepper": np.array(1)}), "'pepper' is none of the model's"),
    "shape": (save({"salt": np.array([1, 2])}), r"'salt' has shape [2], the model has []"),
    "dtype": (save({"salt": np.array(1.0, dtype=np.float32)}), "'salt' has dtype F32"),
    "range": (salted(13), "'salt' is 13"),
    "pickle": (b"\x80\x04\x95\x10\x00\x00\x00\x00" + b"cposix\nsystem\n" * 10, "no safetensors file"),
}


@pytest.mark.parametrize("case", BAD)
async def test_bad_weights_leave_the_old_ones_serving(client: httpx.AsyncClient, case: str):
    body, said = BAD[case]
    await push(client, "1", salted(4))
    before, policy = await scores(client), (await client.get("/policy")).json()
    response = await push(client, "2", body)
    assert refusal(response) == (422, "invalid_weights")
    assert said in response.json()["error"]["message"]
    assert await scores(client) == before
    assert (await client.get("/policy")).json() == policy
    assert (await push(client, "2", salted(5))).status_code == 200, "the next push works"


async def test_the_same_push_again_changes_nothing(client: httpx.AsyncClient):
    first = (await push(client, "1", salted(4))).json()
    again = (await push(client, "1", salted(4))).json()
    assert (first["changed"], again["changed"]) == (True, False)
    assert {again[key] == first[key] for key in ("revision", "loaded_at", "canary")} == {True}


async def test_a_version_names_one_set_of_weights_for_ever(client: httpx.AsyncClient):
    first = await push(client, "1", salted(1))
    assert refusal(await push(client, "1", salted(2))) == (409, "weight_version_taken")
    assert refusal(await push(client, "0", salted(2))) == (409, "weight_version_taken")
    await push(client, "2", salted(2))
    assert refusal(await push(client, "1", salted(3))) == (409, "weight_version_taken")
    back = await push(client, "1", salted(1))
    assert (back.status_code, back.json()["changed"], back.json()["previous_version"]) == (200, True, "2")
    assert back.json()["loaded_at"] > first.json()["loaded_at"]


async def test_the_senders_own_number_decides(client: httpx.AsyncClient):
    ids = (await client.get("/policy")).json()["canary"]["token_ids"]
    wrong = await push(client, "1", salted(1), **{"X-Canary-Logprob": str(mean_logprob(ids, 1) + 0.06)})
    assert refusal(wrong) == (422, "canary_mismatch")
    assert (await scores(client))[0] == "0"
    right = await push(client, "1", salted(1), **{"X-Canary-Logprob": str(mean_logprob(ids, 1) - 0.04)})
    assert right.status_code == 200
    again = await push(client, "1", salted(1), **{"X-Canary-Logprob": "-1.0"})
    assert refusal(again) == (422, "canary_mismatch")


async def test_the_checksum_is_compared(client: httpx.AsyncClient):
    digest = hashlib.sha256(salted(1)).hexdigest()
    changed = await push(client, "1", salted(2), **{"X-Checksum-Sha256": digest})
    assert refusal(changed) == (422, "invalid_weights")
    assert changed.json()["error"]["field"] == "X-Checksum-Sha256"
    assert (await push(client, "1", salted(1), **{"X-Checksum-Sha256": digest.upper()})).status_code == 200


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({}, "X-Weight-Version"),
        ({"X-Weight-Version": ""}, "X-Weight-Version"),
        ({"X-Weight-Version": "a b"}, "X-Weight-Version"),
        ({"X-Weight-Version": "x" * 129}, "X-Weight-Version"),
        ({"X-Weight-Version": "1", "X-Checksum-Sha256": "abc"}, "X-Checksum-Sha256"),
        ({"X-Weight-Version": "1", "X-Canary-Logprob": "nan"}, "X-Canary-Logprob"),
        ({"X-Weight-Version": "1", "X-Canary-Logprob": "low"}, "X-Canary-Logprob"),
    ],
)
async def test_wrong_headers_are_named(client: httpx.AsyncClient, headers: dict[str, str], field: str):
    response = await client.put("/policy/weights", content=salted(1), headers=headers)
    assert refusal(response) == (422, "invalid_request")
    assert response.json()["error"]["field"] == field


def stored(spool: Path) -> int:
    """How many pushed files lie on disk."""
    return len(list(spool.glob("*/*/model.safetensors")))


async def test_weights_over_the_limit_are_refused_however_they_come(tmp_path: Path):
    async def in_pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 1000

    async with opened(max_weights_gb=2000 / 2**30, spool_dir=tmp_path) as client:
        assert refusal(await push(client, "1", b"x" * 2001)) == (413, "body_too_large")
        pieces = await client.put("/policy/weights", content=in_pieces(), headers={"X-Weight-Version": "1"})
        assert refusal(pieces) == (413, "body_too_large")
        assert stored(tmp_path) == 0
        assert (await push(client, "1", salted(1))).status_code == 200


async def test_a_body_is_on_disk_only_as_long_as_it_serves(tmp_path: Path):
    async with opened(spool_dir=tmp_path) as client:
        await push(client, "1", salted(1))
        await push(client, "1", salted(1))
        await push(client, "2", salted(99))
        assert stored(tmp_path) == 1
        await push(client, "2", salted(2))
        assert stored(tmp_path) == 1
    assert list(tmp_path.glob("*")) == []  # noqa: ASYNC240


async def test_a_spool_that_takes_nothing_is_a_retryable_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    async with opened(spool_dir=tmp_path / "file") as client:
        response = await push(client, "1", salted(1))
        assert refusal(response) == (503, "unavailable")
        assert (await client.get("/policy")).json()["weight_version"] == "0"


async def test_one_load_at_a_time(client: httpx.AsyncClient):
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield salted(1)[:10]
        begun.set()
        await go_on.wait()
        yield salted(1)[10:]

    headers = {"X-Weight-Version": "1"}
    first = asyncio.create_task(client.put("/policy/weights", content=slowly(), headers=headers))
    await begun.wait()
    busy = await push(client, "2", salted(2))
    assert refusal(busy) == (409, "policy_busy")
    assert busy.json()["error"]["retryable"]
    assert "Retry-After" in busy.headers
    go_on.set()
    assert (await first).status_code == 200
    assert (await push(client, "2", salted(2))).status_code == 200


async def test_swaps_under_load_mix_nothing():
    """Each answer equals the one that a quiet service with the version it names would give."""
    quiet: dict[str, object] = {}
    bodies = [
        {"groups": [group(group_id="a", prompt=f"p{number}"), group(group_id="b", prompt=f"q{number}")]}
        for number in range(8)
    ]
    async with opened() as alone:
        for salt in range(6):
            await push(alone, str(salt + 1), salted(salt))
            for number, body in enumerate(bodies):
                quiet[f"{salt}/{number}"] = (await alone.post("/reward", json=body)).json()["groups"]
    engine = DummyEngine(ByteTokenizer.vocab_size, seconds_per_token=2e-6, max_batch_tokens=300)
    async with opened(on(engine)) as client:
        done, seen = asyncio.Event(), set()

        async def ask(number: int) -> None:
            while not done.is_set():
                response = await client.post("/reward", json=bodies[number])
                if response.status_code == 503:  # new weights came faster than this could be scored
                    assert refusal(response) == (503, "unavailable")
                    continue
                answer = response.json()
                salt = answer["model"]["weight_version"].partition("-")[0]
                seen.add(answer["model"]["weight_version"])
                assert answer["groups"] == quiet[f"{salt}/{number}"]

        asking = [asyncio.create_task(ask(number)) for number in range(len(bodies))]
        for step in range(12):
            version = f"{step % 6}-{step}"
            assert (await push(client, version, salted(step % 6))).status_code == 200
            if step % 2:  # every other one is replaced while it is asked
                await until(lambda version=version: version in seen)
        done.set()
        await asyncio.gather(*asking)
    assert len(seen) >= 6


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / "one.safetensors").write_bytes(salted(1))
    (tmp_path / "outside.safetensors").write_bytes(salted(2))
    (tmp_path / "root-2").mkdir()
    (tmp_path / "root-2" / "x.safetensors").write_bytes(salted(2))
    (folder / "link.safetensors").symlink_to(tmp_path / "outside.safetensors")
    (folder / "up").symlink_to(tmp_path)
    (folder / "circle").symlink_to(folder / "circle")
    (folder / "linked").mkdir()
    (folder / "linked" / "model.safetensors").symlink_to(tmp_path / "outside.safetensors")
    (folder / "indexed").mkdir()
    (folder / "indexed" / "model.safetensors.index.json").write_text(
        '{"weight_map": {"salt": "../../outside.safetensors"}}'
    )
    (folder / "pickled").mkdir()
    (folder / "pickled" / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    (folder / "weights.bin").write_bytes(b"\x80\x04.")
    (folder / "inner").symlink_to(folder / "one.safetensors")
    return folder


async def load(client: httpx.AsyncClient, path: object, version: str = "1", **more) -> httpx.Response:
    return await client.post("/policy/load", json={"path": str(path), "weight_version": version, **more})


async def test_weights_are_loaded_from_the_services_disk(root: Path):
    async with opened(policy_root=(root,)) as client:
        result = PolicyLoadResult.model_validate((await load(client, root / "one.safetensors")).json())
        assert (result.weight_version, result.changed) == ("1", True)
        assert result.canary.mean_logprob == pytest.approx(mean_logprob(result.canary.token_ids, 1))
        assert not (await load(client, root / "one.safetensors")).json()["changed"]
        (root / "one.safetensors").write_bytes(salted(3))
        assert refusal(await load(client, root / "one.safetensors")) == (409, "weight_version_taken")
        assert refusal(await load(client, root / "one.safetensors", "2", canary_logprob=0.0)) == (
            422, "canary_mismatch",
        )  # fmt: skip
        assert (await load(client, root / "up" / "root" / "inner", "3")).status_code == 200, (
            "links inside are fine"
        )


@pytest.mark.parametrize(
    "path",
    [
        "{root}/../outside.safetensors", "{root}/up/outside.safetensors", "{root}/link.safetensors",
        "{root}/linked", "{root}-2/x.safetensors", "{root}/circle", "/etc/passwd", "/", "/nowhere/at/all",
        "one.safetensors", "../outside.safetensors", "{root}/one.safetensors\0", "~/x",
        "file://{root}/one.safetensors",
    ],
)  # fmt: skip
async def test_nothing_outside_of_the_roots_is_read(root: Path, path: str):
    async with opened(policy_root=(root,)) as client:
        response = await load(client, path.replace("{root}", str(root)))
        assert refusal(response) == (403, "forbidden")
        assert "--policy-root" in response.json()["error"]["message"]
        assert (await client.get("/policy")).json()["weight_version"] == "0"


@pytest.mark.parametrize("path", ["indexed", "pickled", "weights.bin", "not-there", "x" * 5000])
async def test_only_safetensors_are_read(root: Path, path: str):
    async with opened(policy_root=(root,)) as client:
        response = await load(client, root / path)
        assert refusal(response) == (422, "invalid_weights")


async def test_without_roots_nothing_is_loaded(client: httpx.AsyncClient, tmp_path: Path):
    (tmp_path / "one.safetensors").write_bytes(salted(1))
    assert refusal(await load(client, tmp_path / "one.safetensors")) == (403, "forbidden")


async def test_loads_are_counted(client: httpx.AsyncClient):
    await push(client, "1", salted(1))
    await push(client, "2", b"")
    metrics = (await client.get("/metrics")).text
    assert 'opera_policy_loads_total{outcome="ok"} 1.0' in metrics
    assert 'opera_policy_loads_total{outcome="invalid_weights"} 1.0' in metrics
    assert 'weight_version="1"' in metrics
