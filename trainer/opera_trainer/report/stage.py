"""The stage `report`: report.json and report.html from what all other stages wrote. It is made anew every time."""

from __future__ import annotations

from opera_trainer.artefacts import write_json
from opera_trainer.config import RunConfig, judged, trained
from opera_trainer.stage import Stage, Work, shape_of


def stage(config: RunConfig) -> Stage:
    cold = ["synthesize"] if config.synthesis is not None else []
    measured = [f"evaluate-{name}" for name in ("base", *trained(config))]
    judges = ["judge"] if judged(config) else []
    return Stage(
        "report", ("tasks", *cold, *trained(config), *measured, *judges), shape_of(config=config), _run, fresh=True
    )


def _run(work: Work) -> None:
    from opera_trainer.report.gathered import gather
    from opera_trainer.report.page import page

    report = gather(work.config, work.inputs, work.folder.parent)
    write_json(work.folder / "report.json", report)
    (work.folder / "report.html").write_text(page(report), encoding="utf-8")
