"""New weights on many replicas: one switch, every group on one version, and nobody left behind."""

from __future__ import annotations

import asyncio

import httpx
import numpy as np
import pytest
from safetensors.numpy import save

from opera_client.errors import InvalidWeights, WeightVersionTaken

from .conftest import CONFIG, SIZE, expected, group, members_of, salted


async def test_a_push_under_load_switches_all_replicas_at_once_and_mixes_nothing(deployed):
    app = await deployed({"dummy_token_seconds": 2e-5})
    right = {str(salt): await expected(range(10), salt) for salt in range(5)}
    assert len({str(each) for each in right.values()}) == 5
    first_asked: list[tuple[int, str]] = []
    ended = asyncio.Event()
    pushed = 0

    async with app.client(max_items=1, concurrency=32) as client:

        async def groups(number: int) -> None:
            while not ended.is_set():
                before = pushed
                answer = await client.reward([group(number)], config=CONFIG, detail="reward")
                version = answer.model.weight_version
                first_asked.append((before, version))
                assert answer.rewards[0] == right[version][f"g{number}"]

        async def members(number: int) -> None:
            step = 0
            while not ended.is_set():
                step, before = step + 1, pushed
                asked = [{**one, "step": step} for one in members_of(number)]
                together = asyncio.gather(*(client.member(one) for one in asked[:2]))
                await asyncio.sleep(0.02 * number)  # a push may come while the first wait
                answers = [*await asyncio.gather(*(client.member(one) for one in asked[2:])), *await together]
                versions = {answer.model.weight_version for answer in answers}
                assert len(versions) == 1
                assert {answer.group_size_seen for answer in answers} == {SIZE}
                (version,) = versions
                first_asked.append((before, version))
                by_name = {answer.id: answer.reward for answer in answers}
                assert [by_name[str(at)] for at in range(SIZE)] == right[version][f"g{number}"]

        load = [asyncio.create_task(work(number)) for number in range(10) for work in (groups, members)]
        for salt in range(1, 5):
            await asyncio.sleep(1.0)
            result = await client.push_weights(salted(salt), str(salt))
            pushed = salt
            assert (result.weight_version, result.previous_version, result.changed) == (
                str(salt), str(salt - 1), True,
            )  # fmt: skip
        await asyncio.sleep(1.0)
        ended.set()
        await asyncio.gather(*load)
    # Whoever asked after a push had returned never got older weights, whichever replica answered.
    assert all(int(version) >= before for before, version in first_asked)
    assert {version for _, version in first_asked} == set("01234")


async def test_one_refusal_keeps_the_old_weights_everywhere(deployed):
    app = await deployed()
    async with app.client() as client:
        await client.push_weights(salted(3), "3")
        with pytest.raises(InvalidWeights, match="from 0 to 12"):
            await client.push_weights(salted(13), "13")
        with pytest.raises(InvalidWeights, match="'salt' is missing"):
            await client.push_weights(save({"pepper": np.zeros(2)}), "14")
        with pytest.raises(WeightVersionTaken):
            await client.push_weights(salted(4), "3")
        again = await client.push_weights(salted(3), "3")
        assert (again.changed, again.weight_version) == (False, "3")
        assert {(await client.policy()).weight_version for _ in range(20)} == {"3"}
    async with httpx.AsyncClient(base_url=app.url) as http:
        keyless = await http.put("/policy/weights", content=salted(5), headers={"X-Weight-Version": "5"})
    assert keyless.status_code == 401


async def test_new_replicas_and_new_coordinators_know_the_weights(deployed):
    app = await deployed(num_replicas=1)
    right = await expected(range(20), salt=7)
    async with app.client(max_items=1, concurrency=16) as client:
        await client.push_weights(salted(7), "seven")
        await app.deploy(autoscaling_config=None, num_replicas=3)
        answer = await client.reward([group(number) for number in range(20)], config=CONFIG)
        assert answer.model.weight_version == "seven"
        assert answer.rewards == list(right.values())
        app.kill("coordinator")
        app.kill("scorer")
        answer = await client.reward([group(number) for number in range(20)], config=CONFIG)
        assert answer.rewards == list(right.values())
        # Retried until the new coordinator has heard of every replica that may still serve.
        result = await client.push_weights(salted(8), "eight")
        assert (result.previous_version, result.weight_version) == ("seven", "eight")
        await app.until(lambda: app.running() == 3)
        answer = await client.reward([group(number) for number in range(20)], config=CONFIG)
        assert answer.model.weight_version == "eight"
        assert answer.rewards == list((await expected(range(20), salt=8)).values())


async def test_weights_on_a_disk_that_all_see(deployed, tmp_path):
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "w.safetensors").write_bytes(salted(9))
    app = await deployed({"policy_root": str(tmp_path / "policy")})
    async with app.client() as client:
        await client.load_policy(str(tmp_path / "policy" / "w.safetensors"), "nine")
        assert {(await client.policy()).weight_version for _ in range(10)} == {"nine"}
        # Pushed weights replace those, and leave the operator's file alone.
        await client.push_weights(salted(10), "ten")
        assert {(await client.policy()).weight_version for _ in range(10)} == {"ten"}
    assert (tmp_path / "policy" / "w.safetensors").exists()
    kept = list((tmp_path / "spool").rglob("*.safetensors"))
    assert [path.read_bytes() for path in kept] == [salted(10)]
