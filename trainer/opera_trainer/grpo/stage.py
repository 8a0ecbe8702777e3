"""The stage `grpo`: TRL's GRPOTrainer on the reward service's numbers; keeps the best checkpoint on validation."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opera_client.errors import BadInput
from opera_trainer.artefacts import Task, read_rows
from opera_trainer.config import RunConfig
from opera_trainer.service import serving
from opera_trainer.settings.grpo import GrpoSettings
from opera_trainer.stage import SCRATCH, Stage, Work, shape_of

if TYPE_CHECKING:
    from opera_trainer.grpo.trainer import SelectingTrainer
    from opera_trainer.models import Model, Tokenizer

Rows = list[dict[str, Any]]

SHOWN = (
    "reward",
    "opera/answer",
    "opera/level",
    "opera/consistency",
    "opera/value",
    "watched/right",
    "watched/chrf",
    "watched/empty_thought",
    "completions/mean_length",
)


def stage(config: RunConfig) -> Stage:
    """Return the stage; it starts from the fine-tuned model, or from the base where there is no SFT."""
    return Stage(
        name="grpo",
        needs=("tasks", "sft") if config.sft else ("tasks",),
        shape=shape_of(grpo=config.grpo, model=config.model, seed=config.seed),
        run=run,
        together=True,
    )


def run(work: Work) -> None:
    """Train the policy; writes `model/` and `log.jsonl`."""
    from opera_trainer import models, training
    from opera_trainer.grpo.ringing import Alarms

    settings = work.config.grpo or GrpoSettings()
    start = str(work.inputs["sft"] / "model") if "sft" in work.inputs else models.base(work.config.model)
    model, tokenizer = models.load(start)
    tasks = _rows(work, "train", tokenizer, settings)  # before the service starts: a broken line is told at once
    validation = _rows(work, "validation", tokenizer, settings) if settings.select_by else []
    with serving(work.config, _scorer(work, settings, start)) as url:
        trainer = _trainer(work, settings, url, model, tokenizer, tasks, validation)
        training.quiet(trainer, work.say, SHOWN)
        trainer.add_callback(Alarms(work.say))
        trainer.train(resume_from_checkpoint=training.last_checkpoint(work.folder / SCRATCH))
    if trainer.state.best_global_step:
        work.say(f"  best checkpoint on validation: step {trainer.state.best_global_step}")
    training.finish(trainer, tokenizer, start, work.folder)


def _scorer(work: Work, settings: GrpoSettings, start: str) -> str:
    from opera_trainer import models

    base, name = models.base(work.config.model), settings.scorer.model
    if name == "random":
        return str(models.untrained(base, work.config.seed, work.folder / SCRATCH / "random"))
    if settings.scorer.follow != "frozen":
        return start
    return {"base": base, "start": start}.get(name, name)


def _trainer(
    work: Work, settings: GrpoSettings, url: str, model: Model, tokenizer: Tokenizer, tasks: Rows, validation: Rows
) -> SelectingTrainer:
    from datasets import Dataset

    from opera_adapters.trl import OperaReward, PolicySync
    from opera_trainer.grpo.arguments import arguments
    from opera_trainer.grpo.trainer import SelectingTrainer
    from opera_trainer.grpo.watch import Watch
    from opera_trainer.lora import adapters

    run_id = f"{work.config.name}-{uuid.uuid4().hex[:8]}"  # a version names one set of weights for ever
    follows = settings.scorer.follow != "frozen"
    opera = OperaReward(
        url,
        reward=settings.reward.name,
        preset=settings.reward.preset,
        config=settings.reward.config,
        task_column="kind",
        follow_policy=follows,
        run_id=run_id,
        timeout_s=work.config.service.timeout_s,
    )
    callbacks = []
    if follows:
        decay = settings.scorer.decay if settings.scorer.follow == "ema" else None
        callbacks.append(PolicySync(url, admin_key=os.environ.get("OPERA_ADMIN_KEY"), run_id=run_id, decay=decay))
    return SelectingTrainer(
        model,
        reward_funcs=[opera, Watch(_seconds(work))],
        args=arguments(work.config, settings, work.folder / SCRATCH, validates=bool(validation)),
        train_dataset=Dataset.from_list(tasks),
        eval_dataset=Dataset.from_list(validation) if validation else None,
        processing_class=tokenizer,
        callbacks=callbacks,
        peft_config=adapters(settings.lora),
        select_by=settings.select_by,
        shown=work.folder / "samples.jsonl",
        show_every=settings.show_every,
    )


def _seconds(work: Work) -> dict[str, str]:
    """Return second references by task: to watch, never to reward."""
    paths = [work.inputs["tasks"] / f"{split}.jsonl" for split in ("train", "validation")]
    tasks = [task for path in paths for task in read_rows(path, Task)]
    return {task.id: task.second_reference for task in tasks if task.second_reference is not None}


def _rows(work: Work, split: str, tokenizer: Tokenizer, settings: GrpoSettings) -> Rows:
    from opera_trainer.grpo.data import rows

    path: Path = work.inputs["tasks"] / f"{split}.jsonl"
    found, dropped = rows(read_rows(path, Task), tokenizer, settings.max_prompt_length)
    if dropped:
        work.say(f"  {split}: {dropped} prompts left out, over {settings.max_prompt_length} tokens")
    if not found and split == "train":
        raise BadInput(f"grpo: no prompt left in {path}; raise grpo.max_prompt_length or mend the tasks")
    return found
