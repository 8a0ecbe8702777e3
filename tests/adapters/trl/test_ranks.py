"""Two real ranks under torchrun: groups that straddle them are scored whole, and no rank ever waits for ever."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.gate import serving
from tests.adapters.trl.test_grpo import direct

ROOT = Path(__file__).parents[3]


def torchrun(folder: Path, urls: list[str], **arguments: Any) -> list[dict[str, Any]]:
    """Train on two ranks, each with its own service's address; returns what each wrote."""
    run_both("one_rank.py", str(folder), json.dumps(urls), json.dumps(arguments))
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def run_both(script: str, *arguments: str) -> None:
    """Run a script of this folder on two ranks; both must end well."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
        str(Path(__file__).with_name(script)), *arguments,
    ]  # fmt: skip
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def whole_batches(ranks: list[dict[str, Any]]) -> list[dict[str, list[Any]]]:
    """Put the ranks' rows back into the order of the global batch, call by call."""
    return [
        {name: [row for call in calls for row in call[name]] for name in calls[0] if name != "step"}
        for calls in zip(*(rank["calls"] for rank in ranks), strict=True)
    ]


def test_straddling_groups_are_scored_whole(service, tokenizer, tmp_path: Path) -> None:
    """Three rows a rank, groups of two: the middle group has a member on each rank."""
    ranks = torchrun(tmp_path, [service.url] * 2, per_device_train_batch_size=3, num_generations=2, max_steps=2)
    batches = whole_batches(ranks)
    assert len(batches) == 2
    for batch in batches:
        assert batch["prompts"][2] == batch["prompts"][3]
        assert batch["rewards"] == pytest.approx(direct(service.url, tokenizer, batch, 2), abs=2e-5)
    sizes = {len(group["trajectories"]) for body in service.bodies for group in body["groups"]}
    assert sizes == {2}
    assert all(entry["opera/scored"] == 1 and entry["grad_norm"] > 0 for entry in ranks[0]["log"])


def test_a_group_over_all_ranks(service, tokenizer, tmp_path: Path) -> None:
    """Two rows a rank, one group of four."""
    ranks = torchrun(tmp_path, [service.url] * 2, per_device_train_batch_size=2, num_generations=4, max_steps=1)
    (batch,) = whole_batches(ranks)
    assert len({json.dumps(prompt) for prompt in batch["prompts"]}) == 1
    assert batch["rewards"] == pytest.approx(direct(service.url, tokenizer, batch, 4), abs=2e-5)


def test_a_rank_without_a_service_leaves_the_other_alone(service, tokenizer, tmp_path: Path) -> None:
    """The second rank's service is dead: it has no rewards, the first has all of its own, training ends."""
    ranks = torchrun(
        tmp_path,
        [service.url, "http://127.0.0.1:9"],
        per_device_train_batch_size=3,
        num_generations=2,
        max_steps=2,
    )
    for batch in whole_batches(ranks):
        assert batch["rewards"][3:] == [None] * 3
        expected = direct(service.url, tokenizer, batch, 2)
        assert batch["rewards"][:3] == pytest.approx(expected[:3], abs=2e-5)


def test_no_rank_is_scored_on_old_weights(tmp_path: Path) -> None:
    """The first rank pushes; the second asks for the same version and finds it."""
    with serving(engine="torch") as served:
        ranks = torchrun(
            tmp_path,
            [served.url] * 2,
            per_device_train_batch_size=2,
            num_generations=2,
            max_steps=3,
            follow_policy=True,
        )
    for rank in ranks:
        assert [call["step"] for call in rank["calls"]] == [0, 1, 2]
        assert all(None not in call["rewards"] for call in rank["calls"])
    asked = sorted(body["weight_version"] for body in served.bodies)
    assert asked == [f"ranks/{step}" for step in (0, 0, 1, 1, 2, 2)]


def test_shards_of_fsdp2_are_gathered() -> None:
    run_both("one_shard.py")
