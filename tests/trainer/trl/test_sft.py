"""SFT by TRL: packing changes no number, training resumes to the same weights, adapters are merged."""

import pytest
import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from opera_client.errors import BadInput
from opera_trainer import models
from opera_trainer.artefacts import LogEntry, Task, Trace, read_rows, write_rows
from opera_trainer.sft import stage as sft
from opera_trainer.sft.data import IGNORED, reference_rows, rows
from opera_trainer.stage import Stage, run_stages


@pytest.fixture
def traces(before, config, tmp_path, quietly):
    folders = run_stages(before, config(), tmp_path / "data", quietly)
    return list(read_rows(folders["synthesize"] / "traces.jsonl", Trace))


def loss_of(model, batch) -> float:
    """The oracle: mean over all learnt tokens, one row at a time."""
    total, count = 0.0, 0
    for row in batch:
        ids, labels = (torch.tensor([row[name]]) for name in ("input_ids", "labels"))
        with torch.inference_mode():
            logprobs = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        learnt = labels[0, 1:] != IGNORED
        total -= float(logprobs[learnt].gather(1, labels[0, 1:][learnt][:, None]).sum())
        count += int(learnt.sum())
    return total / count


def test_a_packed_row_costs_what_its_traces_cost_alone(traces, tmp_path):
    model, tokenizer = models.load(models.base("demo"))
    batch, _ = rows(traces[:12], tokenizer, 512)
    expected = loss_of(model, batch)
    trainer = SFTTrainer(
        model,
        args=SFTConfig(
            output_dir=str(tmp_path), max_steps=1, per_device_train_batch_size=8, learning_rate=0.0,
            max_length=512, packing=True, packing_strategy="bfd", report_to="none",
            use_cpu=True, bf16=False, logging_steps=1,
            save_strategy="no", disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(batch),
        processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(expected, rel=1e-4)


def test_a_killed_training_resumes_to_the_same_weights(before, config, tmp_path, quietly):
    run_config = config()
    whole = run_stages([*before, sft.stage(run_config)], run_config, tmp_path / "whole", quietly)

    said: list[str] = []

    def stop(line: str) -> None:
        said.append(line)
        if "step" in line and not line.endswith("traces"):
            scratch = tmp_path / "killed" / "sft" / "scratch"
            if any(scratch.glob("checkpoint-*")):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_stages([*before, _chatty(sft.stage(run_config))], run_config, tmp_path / "killed", stop)
    resumed = run_stages([*before, sft.stage(run_config)], run_config, tmp_path / "killed", said.append)
    assert any("goes on after step" in line for line in said)
    one, other = (models.load(folders["sft"] / "model")[0].state_dict() for folders in (whole, resumed))
    assert all(torch.equal(one[name], other[name]) for name in one)
    log = list(read_rows(resumed["sft"] / "log.jsonl", LogEntry))
    assert [entry.step for entry in log if "loss" in entry.metrics] == list(range(1, len(log)))


def _chatty(stage: Stage) -> Stage:
    """The same stage, its progress told at every step."""
    from opera_trainer import training

    def run(work):
        patience, training.PATIENCE_S = training.PATIENCE_S, 0.0
        try:
            stage.run(work)
        finally:
            training.PATIENCE_S = patience

    return Stage(stage.name, stage.needs, stage.shape, run, stage.together)


def test_adapters_are_merged_into_a_folder_that_loads(before, config, tmp_path, quietly):
    run_config = config(sft={"lora": {"rank": 4, "alpha": 8}, "learning_rate": 1e-2})
    folders = run_stages([*before, sft.stage(run_config)], run_config, tmp_path, quietly)
    trained = models.load(folders["sft"] / "model")[0].state_dict()
    base = models.load(models.base("demo"))[0].state_dict()
    assert trained.keys() == base.keys()
    changed = {name for name in base if not torch.equal(base[name], trained[name])}
    assert any("q_proj" in name for name in changed)
    assert not any("embed" in name or "norm" in name for name in changed)


def test_nothing_to_learn_from_is_said(before, config, tmp_path, quietly):
    nothing = Stage("synthesize", (), {}, lambda work: write_rows(work.folder / "traces.jsonl", []) and None)
    with pytest.raises(BadInput, match="no trace to learn from"):
        run_stages([before[0], nothing, sft.stage(config())], config(), tmp_path, quietly)


def test_the_control_learns_references_and_keeps_what_validation_likes_best(before, config, tmp_path, quietly):
    run_config = config(sft=None, synthesis=None, references={
        "steps": 6, "save_every": 2, "batch_size": 4, "micro_batch": 4, "learning_rate": 3e-4, "warmup": 0.0,
    })  # fmt: skip
    stage = sft.stage(run_config, of="references")
    assert stage.needs == ("tasks",)
    said: list[str] = []
    folders = run_stages([before[0], stage], run_config, tmp_path, said.append)
    log = list(read_rows(folders["references"] / "log.jsonl", LogEntry))
    losses = {one.step: one.metrics["loss"] for one in log if one.split == "validation" and "loss" in one.metrics}
    assert set(losses) == {2, 4, 6}
    assert f"  best checkpoint on validation: step {min(losses, key=losses.__getitem__)}" in said
    trained = models.load(folders["references"] / "model")[0]
    base, tokenizer = models.load(models.base("demo"))
    tasks = list(read_rows(folders["tasks"] / "validation.jsonl", Task))
    held_out, _ = reference_rows(tasks, tokenizer, 512)
    prompt = tokenizer.decode([one for one, label in zip(*held_out[0].values(), strict=True) if label == IGNORED])
    assert tasks[0].prompt[0].content in prompt
    learnt = [label for label in held_out[0]["labels"] if label != IGNORED]
    reference = tokenizer(tasks[0].reference, add_special_tokens=False)["input_ids"]
    assert learnt == [*reference, tokenizer.eos_token_id]
    assert loss_of(trained, held_out) == pytest.approx(min(losses.values()), rel=0.02)
    assert loss_of(trained, held_out) < loss_of(base, held_out)
