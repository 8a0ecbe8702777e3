"""The stages `sft` and `references`: TRL's SFTTrainer. Knows no service.

`sft` learns the traces that the cold start kept. `references` is a control in place of GRPO: it learns the
training tasks' references, as a run without any reward would.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from opera_client.errors import BadInput
from opera_trainer.artefacts import Task, Trace, read_rows
from opera_trainer.config import RunConfig
from opera_trainer.settings.sft import ReferencesSettings, SftSettings
from opera_trainer.stage import SCRATCH, Stage, Work, shape_of

Rows = list[dict[str, Any]]


def stage(config: RunConfig, of: Literal["traces", "references"] = "traces") -> Stage:
    """Return the stage that learns traces, or the one that learns references from where GRPO would start."""
    if of == "references":
        return Stage(
            name="references",
            needs=("tasks", "sft") if config.sft else ("tasks",),
            shape=shape_of(references=config.references, model=config.model, seed=config.seed),
            run=run_references,
            together=True,
        )
    return Stage(
        name="sft",
        needs=("synthesize",),
        shape=shape_of(sft=config.sft, model=config.model, seed=config.seed),
        run=run,
        together=True,
    )


def run(work: Work) -> None:
    """Fine-tune the base model; writes `model/` and `log.jsonl`."""
    from opera_trainer import models
    from opera_trainer.sft.data import rows

    settings = work.config.sft or SftSettings()
    origin = models.base(work.config.model)
    tokenizer = models.tokenizer(origin)
    learnt, dropped = rows(
        read_rows(work.inputs["synthesize"] / "traces.jsonl", Trace), tokenizer, settings.max_length
    )
    if not learnt:
        raise BadInput(
            "sft: no trace to learn from; the cold start kept none, or all are over max_length"
            f"={settings.max_length} tokens"
        )
    work.say(f"  {len(learnt)} traces" + (f", {dropped} left out as too long" if dropped else ""))
    _train(work, settings, origin, learnt, [])


def run_references(work: Work) -> None:
    """Fine-tune what GRPO would start from; writes `model/` of the least validation loss and `log.jsonl`."""
    from opera_trainer import models
    from opera_trainer.sft.data import reference_rows

    settings = work.config.references or ReferencesSettings()
    origin = str(work.inputs["sft"] / "model") if "sft" in work.inputs else models.base(work.config.model)
    tokenizer = models.tokenizer(origin)
    tasks: Path = work.inputs["tasks"]
    learnt, dropped = reference_rows(read_rows(tasks / "train.jsonl", Task), tokenizer, settings.max_length)
    if not learnt:
        raise BadInput(f"references: all are over max_length={settings.max_length} tokens")
    validation, _ = reference_rows(read_rows(tasks / "validation.jsonl", Task), tokenizer, settings.max_length)
    work.say(f"  {len(learnt)} references" + (f", {dropped} left out as too long" if dropped else ""))
    _train(work, settings, origin, learnt, validation)


def _train(work: Work, settings: SftSettings, origin: str, learnt: Rows, validation: Sequence[Any]) -> None:
    from datasets import Dataset
    from trl import SFTTrainer

    from opera_trainer import models, training
    from opera_trainer.lora import adapters
    from opera_trainer.sft.arguments import arguments

    model, tokenizer = models.load(origin)
    scratch = work.folder / SCRATCH
    trainer = SFTTrainer(
        model,
        args=arguments(work.config, settings, scratch, validates=bool(validation)),
        train_dataset=Dataset.from_list(learnt),
        eval_dataset=Dataset.from_list(list(validation)) if validation else None,
        processing_class=tokenizer,
        peft_config=adapters(settings.lora),
    )
    training.quiet(trainer, work.say, ("loss", "mean_token_accuracy"))
    trainer.train(resume_from_checkpoint=training.last_checkpoint(scratch))
    if trainer.state.best_global_step:
        work.say(f"  best checkpoint on validation: step {trainer.state.best_global_step}")
    training.finish(trainer, tokenizer, origin, work.folder)
