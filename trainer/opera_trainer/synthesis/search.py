"""One task's search for a trace: what it asks of the service and makes of the answers. No clock, no network.

A search is a generator: it yields items of `/expand` and `/rank`, is sent their results and returns a `Found`.
Steps are paragraphs. Candidates of a step are sampled side by side; some begin with a guiding word, the others
stop where the model itself would reflect, and then all candidates of the next step are guided.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal, TypeAlias

from opera_client.wire import (
    BranchResult,
    ExpandItem,
    ExpandItemResult,
    Message,
    RankBy,
    RankItem,
)
from opera_trainer.artefacts import Row, Task
from opera_trainer.lockstep import Answer, Ask
from opera_trainer.seeds import seed_of
from opera_trainer.settings.synthesis import Criterion, FilterSettings, SynthesisSettings

OPENING, CLOSING, BREAK = "<think>\n", "</think>", "\n\n"
BRIDGE = CLOSING + BREAK
"""Between thought and answer."""

End = Literal["closed", "steps", "stuck"]
"""Why a thought ended: the model closed it, `max_steps` was reached, no candidate could be used."""
Unfit = Literal["empty", "word", "unfinished", "ended", "same", "repeat", "early", "unscored"]
"""Why a candidate could not be chosen: it wanted to reflect at once, it made another word of its guiding word
(`Waiter`), its paragraph did not end in time, it ended the turn inside the thought, it equals an earlier
candidate, repeats a paragraph, closes a thought that the filters would drop while others go on, or has no score.
"""


class Candidate(Row):
    """One way on."""

    text: str
    guiding_word: str | None = None
    stopped_by: str | None = None
    tokens: int
    mean_logprob: float | None = None
    """Of the candidate itself, nats a token."""
    score: float | None = None
    """What the choice goes by: mean log-prob of the step, of the sequence, or of the reference."""
    unfit: Unfit | None = None


class Step(Row):
    """All candidates of one step."""

    task_id: str
    criterion: Criterion
    step: int
    candidates: list[Candidate]
    chosen: int | None = None


class Found(Row):
    """What a search ends with."""

    task_id: str
    paragraphs: list[str]
    reflections: int
    end: End
    answer: str
    answered: bool
    """Whether the answer ended by itself."""
    prices: list[float]
    """Mean log-prob of the reference before the first paragraph and after each, thought closed."""
    steps: list[Step]

    @property
    def thought(self) -> str:
        """Inside of the think block, up to its closing tag."""
        return "".join(f"{paragraph}{BREAK}" for paragraph in self.paragraphs)

    @property
    def response(self) -> str:
        return f"{OPENING}{self.thought}{BRIDGE}{self.answer}"


Search: TypeAlias = Generator[Ask, Answer, Found]


@dataclass(frozen=True)
class _Way:
    """A usable continuation of the thought."""

    index: int
    paragraph: str
    """Empty when the candidate only closes the thought."""
    closes: bool
    braked: bool
    reflects: bool


def search(task: Task, settings: SynthesisSettings, seed: int, by: Criterion | None = None) -> Search:
    """Search a trace for `task`; equal arguments and equal answers give equal traces, whatever runs beside it.

    Args:
        task: its exact check is not used.
        settings: of the cold start.
        seed: of the run.
        by: another criterion than the settings'.
    """
    by = by or settings.by
    asked = _instructed(task.prompt, settings.instruction)
    paragraphs: list[str] = []
    steps: list[Step] = []
    reflections, braked = 0, False
    initial = -inf
    end: End = "steps"
    while len(paragraphs) < settings.max_steps:
        guided = 0
        if reflections < settings.max_reflections:
            guided = settings.candidates if braked else settings.guided
        words = _words(settings, guided, len(paragraphs))
        prefix = OPENING + "".join(f"{paragraph}{BREAK}" for paragraph in paragraphs)
        branches = _expanded(
            (
                yield ExpandItem(
                    prompt=asked,
                    prefix=prefix,
                    n=settings.candidates,
                    guiding_words=words,
                    stop=list(settings.brakes),
                    stop_after=[BREAK, CLOSING],
                    max_tokens=settings.step_tokens,
                    temperature=settings.temperature,
                    top_p=settings.top_p,
                    top_k=settings.top_k,
                    seed=seed_of(seed, task.id, len(paragraphs)),
                    by=_RANK_BY[by],
                )
            )
        )
        ways, unfit = _ways(branches, paragraphs, settings)
        scores = [_rounded(branch.score) for branch in branches]
        if by == "reference":
            scores = [None] * len(branches)
            priced = yield _priced(task, asked, prefix, [*(way.paragraph for way in ways), ""])
            *found, now = _scores(priced)
            if not paragraphs and now is not None:
                initial = now
            for way, score in zip(ways, found, strict=True):
                scores[way.index] = score
            if len(paragraphs) + 1 < settings.max_steps:  # the last step ends the thought, whatever is chosen
                ways, early = _patient(ways, scores, initial, settings.filters)
                unfit.update(early)
        unfit.update({way.index: "unscored" for way in ways if scores[way.index] is None})
        chosen = _best(ways, scores)
        steps.append(
            Step(
                task_id=task.id,
                criterion=by,
                step=len(steps),
                candidates=[
                    Candidate(
                        text=branch.text,
                        guiding_word=branch.guiding_word or None,
                        stopped_by=branch.stopped_by,
                        tokens=len(branch.token_ids),
                        mean_logprob=_rounded(branch.mean_logprob),
                        score=scores[index],
                        unfit=unfit.get(index),
                    )
                    for index, branch in enumerate(branches)
                ],
                chosen=None if chosen is None else chosen.index,
            )
        )
        if chosen is None:
            end = "stuck"
            break
        if chosen.paragraph:
            paragraphs.append(chosen.paragraph)
            reflections += chosen.reflects
        braked = chosen.braked
        if chosen.closes:
            end = "closed"
            break

    prefixes = [paragraphs[:count] for count in range(len(paragraphs) + 1)]
    priced = yield _priced(task, task.prompt, OPENING, [BREAK.join(some) for some in prefixes])
    thought = "".join(f"{paragraph}{BREAK}" for paragraph in paragraphs)
    answers = _expanded(
        (
            yield ExpandItem(
                prompt=task.prompt,
                prefix=f"{OPENING}{thought}{BRIDGE}",
                n=settings.answers,
                max_tokens=settings.answer_tokens,
                temperature=settings.temperature,
                top_p=settings.top_p,
                top_k=settings.top_k,
                seed=seed_of(seed, task.id, -1),
            )
        )
    )
    written = next((one for one in answers if one.finish_reason == "stop" and one.text.strip()), answers[0])
    return Found(
        task_id=task.id,
        paragraphs=paragraphs,
        reflections=reflections,
        end=end,
        answer=written.text.strip(),
        answered=written.finish_reason == "stop",
        prices=[price for price in _scores(priced) if price is not None],
        steps=steps,
    )


_RANK_BY: dict[Criterion, RankBy] = {"step": "branch", "paper": "sequence", "reference": "branch"}
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|[。！？]|\n")
_DIGITS = 4
"""Of log-probs that are kept: rounding of the engine is not a result."""


def _instructed(prompt: Sequence[Message], instruction: str | None) -> list[Message]:
    if instruction is None:
        return list(prompt)
    last = prompt[-1]
    return [*prompt[:-1], last.model_copy(update={"content": instruction.replace("{question}", last.content)})]


def _words(settings: SynthesisSettings, guided: int, step: int) -> list[str]:
    """Return one word a candidate, free candidates first; the words take turns from step to step."""
    known = settings.guiding_words
    chosen = [known[(step * guided + number) % len(known)] for number in range(guided)]
    return [*[""] * (settings.candidates - guided), *chosen]


def _ways(
    branches: Sequence[BranchResult], paragraphs: Sequence[str], settings: SynthesisSettings
) -> tuple[list[_Way], dict[int, Unfit]]:
    """Sort the candidates into those that can be chosen and those that cannot, with the reason."""
    ways: list[_Way] = []
    unfit: dict[int, Unfit] = {}
    known = {_plain(paragraph) for paragraph in paragraphs}
    seen: set[tuple[str, bool]] = set()
    for index, branch in enumerate(branches):
        closes, braked = branch.stopped_by == CLOSING, branch.stopped_by in settings.brakes
        paragraph = branch.text.removesuffix(CLOSING).strip()
        cut = branch.finish_reason == "length"
        ended = not cut and not closes and not braked and branch.stopped_by != BREAK
        if settings.paragraphs == "loose" and (cut or ended):
            paragraph = _sentences(paragraph) if cut else paragraph
            closes, cut, ended = ended, not paragraph, False
        if branch.status != "ok":
            unfit[index] = "unscored"
        elif cut:
            unfit[index] = "unfinished"
        elif ended:
            unfit[index] = "ended"
        elif _another_word(branch):
            unfit[index] = "word"
        elif not paragraph and not closes:
            unfit[index] = "empty"
        elif (_plain(paragraph), closes) in seen:
            unfit[index] = "same"
        elif paragraph and _plain(paragraph) in known:
            unfit[index] = "repeat"
        else:
            seen.add((_plain(paragraph), closes))
            ways.append(_Way(index, paragraph, closes, braked, bool(branch.guiding_word)))
    return ways, unfit


def _sentences(text: str) -> str:
    """Return a text up to the end of its last whole sentence or line; nothing when there is none."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    return text[: ends[-1]].strip() if ends else ""


def _another_word(branch: BranchResult) -> bool:
    """Tell whether a guiding word has become the beginning of another word."""
    word = (branch.guiding_word or "").rstrip()
    behind = branch.text.lstrip()[len(word) : len(word) + 1]
    return bool(word) and word[-1:].isalnum() and behind.isalnum()


def _best(ways: Sequence[_Way], scores: Sequence[float | None]) -> _Way | None:
    """Return the way of the highest score, of equal ones the first."""
    best: tuple[float, _Way] | None = None
    for way in ways:
        score = scores[way.index]
        if score is not None and (best is None or score > best[0]):
            best = score, way
    return None if best is None else best[1]


def _patient(
    ways: Sequence[_Way], scores: Sequence[float | None], initial: float, filters: FilterSettings
) -> tuple[list[_Way], dict[int, Unfit]]:
    """Set closing ways aside that the filters would drop, as long as another way goes on.

    To close costs nothing and a right step may pay only later: the best price alone ends most thoughts at once.
    """

    def early(way: _Way) -> bool:
        score = scores[way.index]
        return way.closes and score is not None and not worthwhile(score, initial, filters)

    going_on = [way for way in ways if not early(way)]
    if not going_on:
        return list(ways), {}
    return going_on, {way.index: "early" for way in ways if early(way)}


def worthwhile(price: float, initial: float, filters: FilterSettings) -> bool:
    """Tell whether a thought has made the reference likely enough to be kept. Prices are nats a token."""
    gain = round(price - initial, _DIGITS)
    gained = filters.min_gain is None or gain >= filters.min_gain
    if filters.min_explained is not None:
        gained = gained and gain >= round(filters.min_explained * -initial, _DIGITS)
    return gained and (filters.min_logprob is None or price >= filters.min_logprob)


def _plain(paragraph: str) -> str:
    return " ".join(paragraph.casefold().split())


def _priced(task: Task, prompt: Sequence[Message], prefix: str, thoughts: Sequence[str]) -> RankItem:
    """Ask for the reference's log-prob after each continuation of `prefix`, the thought closed."""
    closed = [f"{thought}{BREAK}{BRIDGE}" if thought else BRIDGE for thought in thoughts]
    return RankItem(
        prompt=list(prompt), prefix=prefix, candidates=list(closed), by="reference", reference=task.reference
    )


def _expanded(answer: Answer) -> list[BranchResult]:
    assert isinstance(answer, ExpandItemResult)
    return answer.candidates


def _scores(answer: Answer) -> list[float | None]:
    return [_rounded(candidate.score) for candidate in answer.candidates]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)
