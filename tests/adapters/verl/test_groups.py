"""The agent loop route in verl's real rollout: one request a prompt, whatever else happens around it."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean
from types import SimpleNamespace

import pytest
import torch
from tests.adapters.verl.direct import direct
from tests.adapters.verl.relay import Relay
from tests.adapters.verl.rollouts import GROUPS, Rolled, World, asked, canned, configuration, row
from transformers import AutoModelForCausalLM
from verl.trainer.ppo.v1 import PPOTrainer

from opera_demo import model_path

REFUSED, LOST, BROKEN, MUTE, AHEAD = 1, 2, 3, 4, 5
"""Rows: the service says 503, a generation fails, a response has an unknown token, there is no reference, the
weights that wrote it are far newer than those that score."""
ROWS = 7


@pytest.fixture(scope="module")
def world(cluster: None, relay: Relay) -> Iterator[World]:
    opera = {"run_id": "run-7", "timeout_s": 20, "max_lag": 3, "scorer_kl": True}
    config = configuration(
        relay.url, **GROUPS, **{f"reward__opera__{name}": value for name, value in opera.items()}
    )
    started = World(config, canned(broken=BROKEN, lost=LOST, ahead=AHEAD))
    yield started
    started.close()


@pytest.fixture(scope="module")
def rolled(world: World, relay: Relay) -> Rolled:
    relay.open()
    unlucky = asked()[REFUSED].reference
    relay.refuse = lambda body: any(group["reference"] == unlucky for group in body.get("groups", []))
    rows = [row(task, index) for index, task in enumerate(asked())]
    rows[MUTE]["reward_model"] = {"style": "rule", "ground_truth": ""}
    return world.roll(rows, step=3)


def test_each_group_has_the_rewards_of_a_direct_call(rolled: Rolled, service) -> None:
    whole = [at for at in range(ROWS) if at not in (REFUSED, MUTE, AHEAD)]
    for at in whole:
        sessions = rolled.sessions[rolled.uids[at]]
        expected = direct(service.url, asked()[at].reference, sessions)
        assert {name: one.reward for name, one in sessions.items()} == pytest.approx(expected, abs=2e-5)
        assert len(set(expected.values())) > 1
    assert [len(rolled.sessions[uid]) for uid in rolled.uids] == [4, 0, 3, 3, 0, 0, 4]


def test_a_failure_marks_its_prompt_and_no_other(rolled: Rolled) -> None:
    assert [rolled.status[uid] for uid in rolled.uids] == [
        "finished", "failure", "failure", "failure", "failure", "failure", "finished",
    ]  # fmt: skip


def test_a_group_is_one_request_with_the_rollouts_own_ids(rolled: Rolled, relay: Relay) -> None:
    bodies = [body for body in relay.asked("/reward") if body["groups"][0]["reference"] == asked()[0].reference]
    (body,) = bodies
    sessions = rolled.sessions[rolled.uids[0]]
    (group,) = body["groups"]
    assert group["prompt_token_ids"] == sessions[0].prompt_ids
    sent = [one["response_token_ids"] for one in group["trajectories"]]
    assert sorted(sent) == sorted(one.response_ids for one in sessions.values())
    assert body["step"] == 3


def test_every_sample_says_the_same_keys(rolled: Rolled) -> None:
    infos = [one.info for sessions in rolled.sessions.values() for one in sessions.values()]
    assert len({tuple(info) for info in infos}) == 1
    assert {"opera/relative", "opera/reflection", "opera/mean_logprob", "opera/group_size"} <= set(infos[0])
    sizes = [{one.info["opera/group_size"] for one in rolled.sessions[uid].values()} for uid in rolled.uids]
    assert sizes == [{4}, set(), {3}, {3}, set(), set(), {4}]
    assert {info["opera/scorer_lag"] for info in infos} == {1}  # step 2 scored what steps 3 and 4 wrote


@torch.inference_mode()
def test_the_scorers_distance_is_that_of_plain_transformers(rolled: Rolled) -> None:
    """The canned engine gives every token of its own a log-prob of -0.5."""
    model = AutoModelForCausalLM.from_pretrained(model_path(), dtype=torch.float32)
    for one in rolled.sessions[rolled.uids[0]].values():
        logits = model(torch.tensor([one.prompt_ids + one.response_ids])).logits[0, len(one.prompt_ids) - 1 : -1]
        scorer = logits.double().log_softmax(-1)[range(len(one.response_ids)), one.response_ids]
        assert one.info["opera/scorer_kl"] == pytest.approx(-0.5 - scorer.mean().item(), abs=2e-5)


def test_validation_and_rows_of_their_own_size_are_groups_too(world: World, relay: Relay, service) -> None:
    relay.open()
    rows = [row(task, index) for index, task in enumerate(asked()[:2])]
    validated = world.roll(rows, step=3, validate=True)
    sized = world.roll([row(asked()[0], 0, __rollout_n__=3)], step=4)
    assert [len(validated.sessions[uid]) for uid in validated.uids] == [2, 2]
    assert [len(sized.sessions[uid]) for uid in sized.uids] == [3]
    for batch in (validated, sized):
        for at, uid in enumerate(batch.uids):
            sessions = batch.sessions[uid]
            expected = direct(service.url, asked()[at].reference, sessions)
            assert {name: one.reward for name, one in sessions.items()} == pytest.approx(expected, abs=2e-5)
    assert [len(body["groups"][0]["trajectories"]) for body in relay.asked("/reward")] == [2, 2, 3]


def test_the_logging_sampler_tells_verl_every_component(world: World, rolled: Rolled) -> None:
    """Built as verl's trainer builds it; it takes what the tests before have left in the queue."""
    name = "trainer__v1__sampler__custom_sampler"
    trainer = SimpleNamespace(
        config=configuration("http://unused", **{f"{name}__path": "pkg://opera_adapters.verl",
                                                 f"{name}__name": "LoggingReplayBuffer"}),
        trainer_mode="sync",
        _add_prompts_to_generate=None,
    )  # fmt: skip
    buffer = PPOTrainer._build_replay_buffer(trainer)
    batch, metrics = buffer.sample(global_steps=3, partition_id="train", batch_size=len(rolled.uids))
    infos = [one.info for sessions in rolled.sessions.values() for one in sessions.values()]
    assert len(batch.keys) == len(infos)
    for component in (
        "opera/relative",
        "opera/reflection",
        "opera/mean_logprob",
        "opera/scorer_lag",
        "opera/scorer_kl",
    ):
        assert metrics[component] == pytest.approx(fmean(info[component] for info in infos))
    gated = fmean("format_gate" in info["opera/flags"] for info in infos)
    assert metrics["opera/flag/format_gate"] == pytest.approx(gated)
    assert 0 < gated < 1
