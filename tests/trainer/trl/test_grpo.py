"""GRPO by TRL against a service of its own: it trains, selects, resumes exactly, follows the policy."""

import json
from itertools import pairwise

import pytest
import torch
from tests.adapters import gate

from opera_client.errors import BadInput, Unavailable
from opera_trainer import models, training
from opera_trainer.artefacts import LogEntry, Shown, read_rows
from opera_trainer.config import ServiceSettings
from opera_trainer.grpo import stage as grpo
from opera_trainer.grpo.trainer import SelectingTrainer
from opera_trainer.stage import run_stages


def weights(folders):
    return models.load(folders["grpo"] / "model")[0].state_dict()


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def start(config):
    """A configuration without SFT, so that GRPO starts from the base."""
    return lambda **changes: config(sft=None, synthesis=None, grpo=changes)


def test_the_best_checkpoint_on_validation_is_kept(before, start, tmp_path):
    said: list[str] = []
    run_config = start(rollouts=6, show_every=3)
    folders = run_stages([before[0], grpo.stage(run_config)], run_config, tmp_path, said.append)
    log = list(read_rows(folders["grpo"] / "log.jsonl", LogEntry))
    training_log = [entry for entry in log if entry.split == "train" and "reward" in entry.metrics]
    assert [entry.step for entry in training_log] == [1, 2, 3, 4, 5, 6]
    assert all(entry.metrics["opera/scored"] == 1 for entry in training_log)
    assert any(entry.metrics["grad_norm"] > 0 for entry in training_log)
    assert all("watched/right" in entry.metrics for entry in training_log)
    chosen = {entry.step: entry.metrics["selection"] for entry in log if entry.split == "validation"}
    assert set(chosen) == {2, 4, 6}
    for entry in log:
        if entry.split == "validation":
            parts = entry.metrics["opera/level"] + entry.metrics["opera/consistency"]
            assert entry.metrics["selection"] == pytest.approx(parts)
    best = max(chosen, key=lambda step: (chosen[step], -step))
    assert any(line.endswith(f"best checkpoint on validation: step {best}") for line in said)
    assert not same(weights(folders), models.load(models.base("demo"))[0].state_dict())
    shown = list(read_rows(folders["grpo"] / "samples.jsonl", Shown))
    assert [one.step for one in shown] == [3, 6]
    assert all(len(one.responses) == len(one.rewards) == 4 for one in shown)
    assert all("How many" in one.prompt or one.prompt.endswith("?") for one in shown)


@pytest.mark.parametrize("follow", ["frozen", "ema"])
def test_a_killed_training_resumes_to_the_same_weights(before, start, tmp_path, monkeypatch, follow):
    monkeypatch.setattr(training, "PATIENCE_S", 0.0)
    run_config = start(scorer={"follow": follow})
    whole = run_stages([before[0], grpo.stage(run_config)], run_config, tmp_path / "whole", lambda _: None)
    said: list[str] = []

    def stop(line: str) -> None:
        if "step    3/4" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_stages([before[0], grpo.stage(run_config)], run_config, tmp_path / "killed", stop)
    resumed = run_stages([before[0], grpo.stage(run_config)], run_config, tmp_path / "killed", said.append)
    assert any("goes on after step 2" in line for line in said)
    assert same(weights(whole), weights(resumed))


@pytest.mark.parametrize("follow", ["synced", "ema"])
def test_the_scorer_follows_the_policy(before, start, tmp_path, follow):
    run_config = start(scorer={"follow": follow}, select_by=(), learning_rate=1e-3)
    folders = run_stages([before[0], grpo.stage(run_config)], run_config, tmp_path, lambda _: None)
    log = [entry for entry in read_rows(folders["grpo"] / "log.jsonl", LogEntry) if "reward" in entry.metrics]
    assert [entry.metrics["opera/scored"] for entry in log] == [1.0] * 4  # of this step's weights only


def test_an_untrained_scorer_gives_no_level(before, start, tmp_path):
    run_config = start(rollouts=1, scorer={"model": "random"}, select_by=())
    folders = run_stages([before[0], grpo.stage(run_config)], run_config, tmp_path, lambda _: None)
    (entry,) = [one for one in read_rows(folders["grpo"] / "log.jsonl", LogEntry) if "reward" in one.metrics]
    assert entry.metrics["opera/level"] < 0.05


def test_adapters_and_a_kl_term_train(before, start, tmp_path):
    run_config = start(rollouts=2, lora={"rank": 4, "alpha": 8}, kl=0.1, learning_rate=1e-2, select_by=())
    folders = run_stages([before[0], grpo.stage(run_config)], run_config, tmp_path, lambda _: None)
    log = [one for one in read_rows(folders["grpo"] / "log.jsonl", LogEntry) if "reward" in one.metrics]
    assert log[0].metrics["kl"] == pytest.approx(0, abs=1e-6)  # the policy still is its reference
    assert log[1].metrics["kl"] > 0
    trained, base = weights(folders), models.load(models.base("demo"))[0].state_dict()
    assert trained.keys() == base.keys()  # merged
    assert not same(trained, base)


def test_bfloat16_samples_from_a_copy_of_the_policy_and_with_a_cache(before, start, tmp_path, monkeypatch):
    sampled, read = [], []
    copied = SelectingTrainer.sampling_copy

    def looked_at(trainer):
        sampler = copied(trainer)
        policy = trainer.accelerator.unwrap_model(trainer.model).state_dict()
        sampled.append({name: weight.clone() for name, weight in sampler.state_dict().items()})
        assert all(torch.equal(weight, policy[name].bfloat16()) for name, weight in sampled[-1].items())
        if not read:
            sampler.register_forward_pre_hook(lambda _, given, named: read.append(named), with_kwargs=True)
        read.append(None)  # a new batch
        return sampler

    monkeypatch.setattr(SelectingTrainer, "sampling_copy", looked_at)
    run_config = start(rollouts=2, precision="bfloat16", select_by=(), learning_rate=1e-2)
    folders = run_stages([before[0], grpo.stage(run_config)], run_config, tmp_path, lambda _: None)
    assert len(sampled) == 2
    assert not same(*sampled)  # it follows the policy
    lengths = [named if named is None else named["input_ids"].shape[1] for named in read]
    after = [length for last, length in pairwise(lengths) if last is not None and length is not None]
    assert after  # beyond a batch's first token
    assert set(after) == {1}  # the cache holds the rest
    trained = models.load(folders["grpo"] / "model")[0]
    assert {weight.dtype for weight in trained.parameters()} == {torch.float32}


def test_a_batch_without_one_closed_thought_ends_training(before, start, tmp_path):
    run_config = start(rollouts=2, max_completion_length=4, select_by=())
    with pytest.raises(BadInput, match=r"step 1 are paid nothing for their form .*think: \{mode: none\}"):
        run_stages([before[0], grpo.stage(run_config)], run_config, tmp_path, lambda _: None)


def test_a_metric_that_validation_lacks_is_named(before, start, tmp_path):
    run_config = start(rollouts=2, select_by=("opera/levl",))
    with pytest.raises(BadInput, match=r"select_by: validation logged no opera/levl, only .*opera/level"):
        run_stages([before[0], grpo.stage(run_config)], run_config, tmp_path, lambda _: None)


def test_prompts_over_the_limit_are_left_out(before, start, tmp_path):
    run_config = start(max_prompt_length=3)
    with pytest.raises(BadInput, match="no prompt left"):
        run_stages([before[0], grpo.stage(run_config)], run_config, tmp_path, lambda _: None)


def test_a_broken_task_is_named_before_anything_trains(before, start, tmp_path):
    run_config = start()
    folders = run_stages(before[:1], run_config, tmp_path, lambda _: None)
    path = folders["tasks"] / "train.jsonl"
    path.write_text(path.read_text() + json.dumps({"id": "x"}) + "\n")
    with pytest.raises(BadInput, match=r"train\.jsonl, line 65: prompt: is missing; give it"):
        run_stages([before[0], grpo.stage(run_config)], run_config, tmp_path, lambda _: None)


def test_a_dead_service_ends_training_and_a_living_one_resumes_it(before, start, tmp_path):
    with gate.serving(engine="torch") as service:
        run_config = start(rollouts=4)
        run_config = run_config.model_copy(update={"service": ServiceSettings(url=service.url, timeout_s=2)})
        stages = [before[0], grpo.stage(run_config)]

        def stop(line: str) -> None:
            if "step    2/4" in line and "validation" in line:
                service.refuse = lambda: True

        with pytest.raises(Unavailable, match="no completion of step 3 has a reward"):
            run_stages(stages, run_config, tmp_path, stop)
        service.open()
        said: list[str] = []
        folders = run_stages(stages, run_config, tmp_path, said.append)
    assert any("goes on after step 2" in line for line in said)
    log = list(read_rows(folders["grpo"] / "log.jsonl", LogEntry))
    assert [one.metrics["opera/scored"] for one in log if "reward" in one.metrics] == [1.0] * len(log[:-1])
