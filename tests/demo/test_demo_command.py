"""`opera-reward demo` as a user runs it: ends by itself, says what it did, leaves three files."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from opera_client.wire import Group, RewardResult
from opera_demo import rollouts
from opera_demo.world import tasks

COMMAND = [sys.executable, "-m", "opera_cli", "demo"]


def run(*argv, **env):
    return subprocess.run(
        [*COMMAND, *map(str, argv)], capture_output=True, text=True, timeout=200, check=False, env=os.environ | env
    )


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    # Variables of a real service must not leak into the demo.
    done = run("--out", out, OPERA_ENGINE="dummy", OPERA_API_KEYS="secret", OPERA_PORT="1")
    return done, out


def test_it_ends_by_itself_with_a_table_and_the_files(shown):
    done, out = shown
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for word in ("Question 1", "Question 4", "reward", "precision", "gains", "thought by thought", "plot.html"):
        assert word in done.stdout
    assert max(len(line) for line in done.stdout.splitlines() if str(out) not in line) <= 110
    assert "<html" in (out / "plot.html").read_text(encoding="utf-8")


def test_the_files_are_the_question_and_the_answer_of_one_request(shown):
    _, out = shown
    groups = [Group.model_validate_json(line) for line in (out / "groups.jsonl").read_text().splitlines()]
    answer = RewardResult.model_validate_json((out / "answer.json").read_text())
    assert [g.group_id for g in groups] == [g.group_id for g in answer.groups]
    for asked, scored in zip(groups, answer.groups, strict=True):
        assert len(asked.trajectories) == scored.scored == 4
        assert len({t.response for t in asked.trajectories}) == 4
    assert answer.model.name == "demo"
    assert answer.usage.tokens_computed < answer.usage.tokens_naive


def test_the_command_that_it_names_scores_the_same(shown):
    done, out = shown
    named = re.search(r"score them again: opera-reward (score .+)\)", done.stdout).group(1).split()
    again = subprocess.run([*COMMAND[:-1], *named], capture_output=True, text=True, timeout=200, check=True)
    answer = json.loads((out / "answer.json").read_text())
    for line, scored in zip(again.stdout.splitlines(), answer["groups"], strict=True):
        pairs = zip(json.loads(line)["trajectories"], scored["trajectories"], strict=True)
        assert all(now["reward"] == pytest.approx(then["reward"], abs=1e-4) for now, then in pairs)


def test_rewards_follow_the_right_answers_that_no_reward_has_seen(shown):
    _, out = shown
    groups = [Group.model_validate_json(line) for line in (out / "groups.jsonl").read_text().splitlines()]
    answer = json.loads((out / "answer.json").read_text())
    paid = {True: [], False: []}
    for task, asked, scored in zip(tasks("test", 4, seed=0), groups, answer["groups"], strict=True):
        assert asked.reference == task.reference
        for one, result in zip(asked.trajectories, scored["trajectories"], strict=True):
            paid[task.is_right(one.response)].append(result["reward"])
    right, wrong = (sum(paid[is_right]) / len(paid[is_right]) for is_right in (True, False))
    assert right > wrong + 0.3


async def test_the_same_seed_samples_the_same_responses_and_another_does_not():
    from opera_service.server.backends import load_backend
    from opera_service.server.settings import Settings

    backend = load_backend(Settings(engine="torch", model=None))
    asked = tasks("test", 2, seed=5)
    first, again, other = [
        [one.group for one in await rollouts.sample(backend.engine, backend.tokenizer, asked, count=3, seed=seed)]
        for seed in (1, 1, 2)
    ]
    await backend.engine.aclose()
    assert first == again
    assert first != other


def test_ctrl_c_is_clean(tmp_path):
    process = subprocess.Popen(
        [*COMMAND, "--out", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    assert "model thinks" in process.stdout.readline()
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in stderr
    assert "Traceback" not in stderr


def test_a_folder_that_cannot_be_written_is_2_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    done = run("--out", tmp_path / "file")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
