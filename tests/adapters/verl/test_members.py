"""The reward manager route: verl shows samples one by one to several workers; groups meet in the service."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.adapters.verl.direct import direct
from tests.adapters.verl.relay import Relay
from tests.adapters.verl.rollouts import (
    MANAGER,
    Rolled,
    World,
    asked,
    canned,
    configuration,
    encoded,
    responses,
    row,
)
from verl import DataProto

REFUSED, LOST, BROKEN, LOSSY = 1, 2, 3, 4
"""Rows: the service says 503, a generation fails, a response has an unknown token, answers get lost."""
WAIT_S, TIMEOUT_S = 20, 10


@pytest.fixture(scope="module")
def world(cluster: None, relay: Relay) -> Iterator[World]:
    config = configuration(
        relay.url,
        **MANAGER,
        reward__opera__wait_s=WAIT_S,
        reward__opera__timeout_s=TIMEOUT_S,
    )
    started = World(config, canned(broken=BROKEN, lost=LOST))
    yield started
    started.close()


@pytest.fixture(scope="module")
def rolled(world: World, relay: Relay) -> Rolled:
    relay.open()
    refused, lossy = asked()[REFUSED].reference, asked()[LOSSY].reference
    seen: Counter[str] = Counter()

    def lose(body: Mapping[str, Any]) -> bool:
        seen[body.get("member_id", "")] += 1
        return body.get("reference") == lossy and seen[body["member_id"]] == 1

    relay.refuse = lambda body: body.get("reference") == refused
    relay.lose = lose
    return world.roll([row(task, index) for index, task in enumerate(asked())], step=3)


def test_each_group_has_the_rewards_of_a_direct_call(rolled: Rolled, service) -> None:
    """Whichever of the two reward workers each of its members went through."""
    for at in (at for at in range(len(asked())) if at != REFUSED):
        sessions = rolled.sessions[rolled.uids[at]]
        expected = direct(service.url, asked()[at].reference, sessions)
        assert {name: one.reward for name, one in sessions.items()} == pytest.approx(expected, abs=2e-5)
        assert len(set(expected.values())) > 1


def test_a_failure_marks_its_prompt_and_no_other(rolled: Rolled) -> None:
    status = ["finished", "failure", "failure", "failure", "finished", "finished", "finished"]
    assert [rolled.status[uid] for uid in rolled.uids] == status
    assert [len(rolled.sessions[uid]) for uid in rolled.uids] == [4, 0, 3, 3, 4, 4, 4]


def test_a_lost_answer_is_asked_for_again_and_counts_once(rolled: Rolled, relay: Relay) -> None:
    sent = [body["member_id"] for body in relay.asked("/reward/member")
            if body["reference"] == asked()[LOSSY].reference]  # fmt: skip
    assert set(Counter(sent).values()) == {2}
    sessions = rolled.sessions[rolled.uids[LOSSY]]
    assert {one.info["opera/group_size"] for one in sessions.values()} == {4}
    flags = ",".join(one.info["opera/flags"] for one in sessions.values())
    assert "group_partial" not in flags
    assert "late_member" not in flags


def test_every_sample_says_the_same_keys(rolled: Rolled) -> None:
    infos = [one.info for sessions in rolled.sessions.values() for one in sessions.values()]
    assert len({tuple(info) for info in infos}) == 1
    partial = rolled.sessions[rolled.uids[LOST]].values()
    assert all("group_partial" in one.info["opera/flags"] for one in partial)


def test_validation_has_its_own_group_size(world: World, relay: Relay, service) -> None:
    relay.open()
    rows = [row(task, at, extra_info={"index": at, "split": "test"}) for at, task in enumerate(asked()[5:7])]
    start = time.monotonic()
    validated = world.roll(rows, step=3, validate=True)
    assert time.monotonic() - start < WAIT_S  # nobody waited for members that never come
    assert [len(validated.sessions[uid]) for uid in validated.uids] == [2, 2]
    for at, uid in enumerate(validated.uids, 5):
        expected = direct(service.url, asked()[at].reference, validated.sessions[uid])
        assert {name: one.reward for name, one in validated.sessions[uid].items()} == pytest.approx(
            expected, abs=2e-5
        )


def batch(count: int) -> DataProto:
    """Return `count` prompts of four sessions as verl batches them: prompts padded left, responses right."""
    from transformers import AutoTokenizer

    from opera_demo import model_path

    tokenizer = AutoTokenizer.from_pretrained(model_path())
    prompts, answers, rows = [], [], []
    for at, task in enumerate(asked()[:count]):
        messages = [{"role": "user", "content": task.question}]
        told = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
        ids = told["input_ids"] if hasattr(told, "keys") else told
        for session, answer in enumerate(encoded(responses(task))):
            prompts.append(torch.tensor(ids))
            answers.append(torch.tensor(answer))
            rows.append({**row(task, at), "uid": f"u{at}", "session_id": session, "global_steps": 7})
    pad = torch.nn.utils.rnn.pad_sequence
    left = pad([ids.flip(0) for ids in prompts], batch_first=True).flip(1)
    left_mask = pad([torch.ones_like(ids) for ids in prompts], batch_first=True).flip(1)
    right, right_mask = (
        pad(answers, batch_first=True),
        pad([torch.ones_like(a) for a in answers], batch_first=True),
    )
    columns = {name: np.empty(len(rows), dtype=object) for name in rows[0]}
    for name, column in columns.items():
        column[:] = [one[name] for one in rows]
    mask = torch.cat([left_mask, right_mask], 1)
    return DataProto.from_single_dict({"prompts": left, "responses": right, "attention_mask": mask, **columns})


def test_the_reward_loop_manager_pads_with_copies_that_count_once(world: World, relay: Relay, service) -> None:
    """Twenty rows and a copy of one for two workers: verl repeats the first row to make them even."""
    relay.open()
    data = batch(5)
    scored = world.rewards.compute_rm_score(DataProto.concat([data, data[7:8]]))
    sent = Counter(body["member_id"] for body in relay.asked("/reward/member"))
    assert sorted(sent.values()) == [1] * 18 + [2] * 2
    masks = data.batch["attention_mask"][:, data.batch["prompts"].shape[1] :].bool()
    for at, task in enumerate(asked()[:5]):
        group = range(4 * at, 4 * at + 4)
        own = data.batch["attention_mask"][4 * at, : data.batch["prompts"].shape[1]].bool()
        sessions = {
            place: SimpleNamespace(
                prompt_ids=data.batch["prompts"][place][own].tolist(),
                response_ids=data.batch["responses"][place][masks[place]].tolist(),
            )
            for place in group
        }
        expected = direct(service.url, task.reference, sessions)
        for place in group:
            last = int(masks[place].sum()) - 1
            assert scored.batch["rm_scores"][place][last].item() == pytest.approx(expected[place], abs=2e-5)
    assert "opera/relative" in scored.meta_info["reward_extra_keys"]
