"""How traces are synthesised and which are kept. Knows no stage."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from opera_trainer.settings.base import Settings

Criterion = Literal["step", "reference", "paper"]
WORDS = ("Wait", "But", "Hmm", "However")


class FilterSettings(Settings):
    """Which finished traces SFT may learn from. None switches a filter off."""

    min_gain: float | None = Field(
        0.02, description="Nats a token that the thought must add to the reference's mean log-prob."
    )
    min_explained: float | None = Field(
        None,
        lt=1,
        description="Least share of the reference's surprise, its negative mean log-prob before any thought, that "
        "the thought takes away: relative to the model's own prior, so for references of any length.",
    )
    min_logprob: float | None = Field(
        None, description="Least mean log-prob of the reference after the thought; for short references only."
    )
    max_idle: float | None = Field(
        0.5, ge=0, le=1, description="Largest share of paragraphs that do not make the reference likelier: filler."
    )
    max_repetition: float | None = Field(
        0.3, ge=0, le=1, description="Largest share of the thought's 6-grams of words that were there before."
    )
    check: bool = Field(
        False, description="Also drop what the task's exact check calls wrong. Off, the check is a statistic only."
    )


class SynthesisSettings(Settings):
    """The cold start. Defaults fit the embedded model."""

    by: Criterion = Field(
        "reference",
        description="Which candidate goes on: the step of least perplexity; the one after which the reference has "
        "the least (REER); `paper`: least perplexity of the whole sequence, as released, for comparison.",
    )
    candidates: int = Field(4, ge=1, le=256, description="Sampled side by side for every step.")
    guided: int = Field(2, ge=0, description="Of them, how many begin with a guiding word.")
    guiding_words: tuple[str, ...] = Field(WORDS, description="Taken in turn; they count as reflections.")
    brakes: tuple[str, ...] = Field(WORDS, description="A candidate stops before these: a reflection point.")
    max_reflections: int = Field(3, ge=0, description="Then no further one can be written.")
    max_steps: int = Field(12, ge=1, description="Paragraphs; then the thought is closed.")
    step_tokens: int = Field(48, ge=1, description="Longest paragraph.")
    paragraphs: Literal["strict", "loose"] = Field(
        "strict",
        description="`strict`: a paragraph ends with a blank line. `loose`, for models not taught to think: one "
        "without an end is cut behind its last sentence, and a model that ends its turn has closed its thought.",
    )
    answer_tokens: int = Field(32, ge=1)
    answers: int = Field(1, ge=1, le=64, description="Sampled behind a thought; the first that ends is taken.")
    temperature: float = Field(1.0, gt=0)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0, description="0 keeps the whole vocabulary.")
    instruction: str | None = Field(
        None, description="Asked in place of the question while thinking; `{question}` stands for it."
    )
    filters: FilterSettings = FilterSettings()
    batch: int = Field(32, ge=1, description="Prompts that are worked on side by side, in the same requests.")
    concurrency: int = Field(
        1,
        ge=1,
        description="Batches in flight; more than 1 only helps an engine that joins requests, as vLLM does.",
    )
    give_up_after: int | None = Field(
        32,
        ge=1,
        description="Tasks without a kept trace after which the search ends with the reasons; null: never.",
    )
    compare: int = Field(
        64, ge=0, description="Tasks on which the other criteria and plain sampling are tried, for the report."
    )
    parquet: bool = Field(False, description="Also write traces.parquet.")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.guided > self.candidates:
            raise ValueError(f"guided={self.guided} is more than candidates={self.candidates}")
        if not self.guiding_words and (self.guided or self.max_reflections):
            raise ValueError("without guiding_words, guided and max_reflections must be 0")
        if self.instruction is not None and "{question}" not in self.instruction:
            raise ValueError("instruction must hold {question}")
        return self
