"""The stage `sft`: TRL's SFTTrainer on the traces that the cold start kept. Knows no service."""

from __future__ import annotations

from opera_client.errors import BadInput
from opera_trainer.artefacts import Trace, read_rows
from opera_trainer.config import RunConfig
from opera_trainer.settings.sft import SftSettings
from opera_trainer.stage import Stage, Work, shape_of


def stage(config: RunConfig) -> Stage:
    """Return the stage."""
    return Stage(
        name="sft",
        needs=("synthesize",),
        shape=shape_of(sft=config.sft, model=config.model, seed=config.seed),
        run=run,
        together=True,
    )


def run(work: Work) -> None:
    """Fine-tune the base model; writes `model/` and `log.jsonl`."""
    from datasets import Dataset
    from trl import SFTTrainer

    from opera_trainer import models, training
    from opera_trainer.lora import adapters
    from opera_trainer.sft.arguments import arguments
    from opera_trainer.sft.data import rows

    settings = work.config.sft or SftSettings()
    origin = models.base(work.config.model)
    model, tokenizer = models.load(origin)
    learnt, dropped = rows(
        read_rows(work.inputs["synthesize"] / "traces.jsonl", Trace), tokenizer, settings.max_length
    )
    if not learnt:
        raise BadInput(
            "sft: no trace to learn from; the cold start kept none, or all are over max_length"
            f"={settings.max_length} tokens"
        )
    work.say(f"  {len(learnt)} traces" + (f", {dropped} left out as too long" if dropped else ""))
    scratch = work.folder / "scratch"
    trainer = SFTTrainer(
        model,
        args=arguments(work.config, settings, scratch),
        train_dataset=Dataset.from_list(learnt),
        processing_class=tokenizer,
        peft_config=adapters(settings.lora),
    )
    training.quiet(trainer, work.say, ("loss", "mean_token_accuracy"))
    trainer.train(resume_from_checkpoint=training.last_checkpoint(scratch))
    training.finish(trainer, tokenizer, origin, work.folder)
