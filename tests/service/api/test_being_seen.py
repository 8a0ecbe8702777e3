"""What an answer leaves behind: flags, metrics by reward and component, the health of its run."""

import httpx

from .conftest import group
from .test_operations import samples

CHEAT = "<think>\n" + "Wait.\n\n" * 40 + "</think>\n\n42"
CUT_OFF = "<think>\n17 + 25 is"


async def metrics(client: httpx.AsyncClient) -> dict:
    return samples((await client.get("/metrics")).text)


async def test_a_cheat_is_flagged_and_its_neighbours_are_not(client: httpx.AsyncClient):
    body = {
        "run_id": "r1",
        "preset": "hardened-1",
        "groups": [group(trajectories=[*group()["trajectories"], {"id": "c", "response": CHEAT}])],
    }
    answer = (await client.post("/reward", json=body)).json()
    flags = {one["id"]: one["flags"] for one in answer["groups"][0]["trajectories"]}
    assert flags == {"a": [], "b": [], "c": ["empty_reflection", "repetition"]}
    after = await metrics(client)
    assert after["opera_flagged_trajectories_total", ("repetition",)] == 1
    assert after["opera_run_flagged_ratio", ("empty_reflection", "r1")] == 1 / 3
    assert after["opera_run_flagged_ratio", ("length_drift", "r1")] == 0


async def test_rewards_components_and_statuses_are_counted_by_name(client: httpx.AsyncClient):
    bad = group(group_id="bad", trajectories=[{"response": "yes"}, {"response": ""}])
    answer = (await client.post("/reward", json={"groups": [group(), bad]})).json()
    after = await metrics(client)
    assert after["opera_trajectories_total", ("hardened", "opera", "ok")] == 3
    assert after["opera_trajectories_total", ("hardened", "opera", "error")] == 1
    scored = [one for each in answer["groups"] for one in each["trajectories"] if one["status"] == "ok"]
    for name in scored[0]["components"]:
        assert after["opera_trajectory_reward_component_count", (name, "hardened", "opera")] == 3
    assert after["opera_read_seconds_count", ()] == 1


async def test_the_health_of_a_run_is_what_its_answers_say(client: httpx.AsyncClient):
    trajectories = [*group()["trajectories"], {"id": "c", "response": CUT_OFF}, {"id": "d", "response": "42"}]
    body = {"run_id": "r2", "groups": [group(trajectories=trajectories)]}
    answer = (await client.post("/reward", json=body)).json()
    rewards = [one["reward"] for one in answer["groups"][0]["trajectories"]]
    after = await metrics(client)
    assert abs(after["opera_run_reward_mean", ("r2",)] - sum(rewards) / 4) < 1e-9
    assert after["opera_run_truncated_ratio", ("r2",)] == 0.25
    assert after["opera_run_thinkless_ratio", ("r2",)] == 0.25
    assert after["opera_thinkless_trajectories_total", ("hardened", "opera")] == 1
    assert after["opera_run_equal_groups_ratio", ("r2",)] == 0
    assert after["opera_run_window_trajectories", ("r2",)] == 4


async def test_members_count_once_for_their_run(client: httpx.AsyncClient):
    shared = {key: group()[key] for key in ("prompt", "reference")}
    common = {**shared, "run_id": "r3", "group_id": "g", "group_size": 2, "wait_s": 0}
    for name in ("m1", "m2"):  # the first is answered alone, the second comes late and is ranked with the first
        response = {"response": f"<think>\nIt is 42, says {name}.\n\n</think>\n\n42"}
        assert (await client.post("/reward/member", json={**common, **response, "member_id": name})).is_success
    assert (await metrics(client))["opera_run_window_trajectories", ("r3",)] == 2


async def test_what_runs_is_counted_while_it_runs(client: httpx.AsyncClient):
    after = await metrics(client)
    assert after["opera_requests_running", ()] == 1  # the scrape itself
    assert after["opera_running_trees", ()] == after["opera_running_tokens", ()] == 0
