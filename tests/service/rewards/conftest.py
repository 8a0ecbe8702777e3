"""Groups made by hand and a price list that answers a reward's queries, so that every number is exact."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, permutations
from types import SimpleNamespace

import numpy as np
import pytest

from opera_service.pipelines.reward_views import judge_for, questions_for
from opera_service.rewards.base import GroupOutcome
from opera_service.rewards.for_group import for_group
from opera_service.rewards.registry import AnyReward, resolve
from opera_service.rewards.verifier import Verifier
from opera_service.scoring.scores import NO_SCORES, TreeScores
from opera_service.scoring.tree import Ids, TokenTree, TreeBuilder, as_ids
from opera_service.trajectories.encoded import EncodedGroup, EncodedTrajectory, Judging, PolicyTokens, Segment

VERIFIER = Verifier()
PROMPT, THINK, CLOSE, END = 1, 2, 3, 4


@dataclass(frozen=True)
class Paragraph:
    """A segment of a thought, with the mean log-prob of the reference after it."""

    text: str
    after: float
    reflective: bool = False
    tokens: int = 10


@dataclass(frozen=True)
class Response:
    """A trajectory by its prices: mean log-probs per reference token."""

    paragraphs: tuple[Paragraph, ...] = ()
    hybrid: float | None = None
    """After the whole response; the price after the thought when not given."""
    answer: str = "the answer"
    own: float = -0.5
    """Mean log-prob of the own answer."""
    answered: float | None = None
    """The reference after the answer in a thought's place; the last paragraph's when not given."""
    alone: float = -2.0
    """The answer after an empty thought."""
    given: float = -2.0
    """The answer after the reference."""
    unasked: float = -12.0
    """The answer without the prompt: so much less likely that no answer is irrelevant by chance."""
    unmarked: Mapping[int, float] = field(default_factory=dict)
    """The reference after a reflective paragraph without its markers; -9 where not given."""
    flags: tuple[str, ...] = ()
    outcome: bool | None = None
    answer_only: bool = False


@dataclass
class PriceList:
    """Contexts as ids -> mean log-prob of what is priced there; equal for all target tokens."""

    prices: dict[tuple[int, ...], float] = field(default_factory=dict)
    answers: dict[tuple[int, ...], float] = field(default_factory=dict)
    """Contexts with their targets; they come before `prices`."""
    second: float = 1.5
    """A second model's log-probs are so many times as large."""

    def answer(self, builder: TreeBuilder, shape: Callable[[int], np.ndarray] | None = None) -> TreeScores:
        return self._answer(builder.build(), shape)

    def _answer(self, tree: TokenTree, shape: Callable[[int], np.ndarray] | None) -> TreeScores:
        found = []
        for query in range(tree.num_queries):
            path, context = tree.query_context(query)
            whole = tuple(path.tolist())
            mean = self.answers[whole] if whole in self.answers else self.prices[whole[:context]]
            tokens = len(path) - context
            found.append(mean + (shape(tokens) if shape else np.zeros(tokens)))
        logprobs = np.concatenate(found)
        entropies = 0.5 - 0.5 * logprobs if tree.want_entropy else None
        scores = TreeScores(logprobs, tree.query_start, "0", tree.num_tokens, entropies)
        if tree.second is None:
            return scores
        second = self._answer(tree.second, shape)
        return replace(scores, second=replace(second, logprobs=self.second * second.logprobs))


@dataclass
class Bench:
    """Prices responses with a reward. Mean log-probs are exact; `shape` may spread them over the tokens."""

    initial: float = -2.0
    reference: str = "the known good answer"
    reference_tokens: int = 8
    prompt: str = "a question"
    task: str = "open"
    controls: Sequence[float] = ()
    """Mean log-probs after each contentless control paragraph."""
    bridge: tuple[int, ...] = (CLOSE,)
    shape: Callable[[int], np.ndarray] | None = None

    def group(self, responses: Sequence[Response]) -> tuple[EncodedGroup, PriceList]:
        fresh = count(100)
        prices: dict[tuple[int, ...], float] = {}
        initial = (PROMPT, THINK)
        prices[initial + self.bridge] = self.initial
        controls = []
        for level in self.controls:
            control = (next(fresh), next(fresh))
            controls.append(as_ids(control))
            prices[initial + control + self.bridge] = level
        answers: dict[tuple[int, ...], float] = {}
        told = (PROMPT, THINK, *range(10, 10 + self.reference_tokens), 5)
        trajectories = []
        for number, response in enumerate(responses):
            contexts, segments, at = [initial], [], 1
            for paragraph in response.paragraphs:
                tokens = tuple(next(fresh) for _ in range(paragraph.tokens))
                contexts.append(contexts[-1] + tokens)
                segments.append(Segment(at, at + len(tokens), paragraph.text, paragraph.reflective))
                at += len(tokens)
                prices[contexts[-1] + self.bridge] = paragraph.after
            answer_context = (*contexts[-1], CLOSE, next(fresh))
            answer_ids = (next(fresh), END) if response.answer else ()
            full = answer_context + answer_ids
            last = response.paragraphs[-1].after if response.paragraphs else self.initial
            prices[answer_context] = response.own
            prices[full] = last if response.hybrid is None else response.hybrid
            answers[full] = response.own
            answers[full[1:]] = 2 * response.own  # without any question
            begun = len(initial) - 1
            answer = answer_ids[:1]
            answer_thought = (*initial, *answer, 6)
            prices[answer_thought + self.bridge] = last if response.answered is None else response.answered
            if answer:
                answers[(*initial, CLOSE, *answer)] = response.alone
                answers[(*told, CLOSE, *answer)] = response.given
                answers[(THINK, CLOSE, *answer)] = response.unasked
            unmarked: list[Ids | None] = []
            for index, segment in enumerate(segments):
                other = (*contexts[index], next(fresh)) if segment.reflective else None
                unmarked.append(None if other is None else as_ids(other))
                if other is not None:
                    prices[other + self.bridge] = response.unmarked.get(index, -9.0)
            thought = "\n\n".join(paragraph.text for paragraph in response.paragraphs)
            trajectories.append(
                EncodedTrajectory(
                    id=str(number),
                    text=f"<think>{thought}</think>{response.answer}",
                    thought=thought,
                    answer=response.answer,
                    segments=tuple(segments),
                    contexts=tuple(as_ids(context) for context in contexts),
                    full=as_ids(full),
                    answer_context=as_ids(answer_context),
                    answer_ids=as_ids(answer_ids),
                    answer_thought=as_ids(answer_thought),
                    plain_answer=as_ids(answer),
                    outside=response.answer,
                    unmarked=tuple(unmarked),
                    policy=PolicyTokens(
                        context=as_ids(full[:1]),
                        ids=as_ids(full[1:]),
                        written=((0, len(full) - 1),),
                        thoughts=((begun, len(contexts[-1]) - 1),),
                        answers=((len(answer_context) - 1, len(full) - 1),),
                    ),
                    response_tokens=at + 1 + len(answer_ids),
                    flags=response.flags,
                    answer_only=response.answer_only,
                    outcome=response.outcome,
                )
            )
        group = EncodedGroup(
            id="g",
            task=self.task,
            prompt_ids=as_ids([PROMPT]),
            initial=as_ids(initial),
            bridge=as_ids(self.bridge),
            close=as_ids([CLOSE]),
            line_end=as_ids([5]),
            reference_ids=as_ids(range(10, 10 + self.reference_tokens)),
            reference=self.reference,
            trajectories=tuple(trajectories),
            controls=tuple(controls),
            prompt=self.prompt,
            judging=Judging(
                {
                    shown: as_ids((PROMPT, *(900 + int(name) for name in shown)))
                    for count in (1, 2)
                    for shown in permutations([one.id for one in trajectories], count)
                },
                (as_ids([7]), as_ids([8])),
            ),
        )
        assert group.judging is not None
        shown = [group.reference_ids, *(one.plain_answer for one in trajectories)]
        for one, response in zip(
            trajectories, responses, strict=True
        ):  # a response behind what gives the answer away
            own = one.full.tolist()
            answers.update({(own[0], *ids.tolist(), *own[1:]): 1.1 * response.own for ids in shown if len(ids)})
        prices.update({tuple(ids.tolist()): -1.0 for ids in group.judging.prompts.values()})
        return group, PriceList(prices, answers)

    def price(self, reward: AnyReward, responses: Sequence[Response]) -> GroupOutcome:
        group, prices = self.group(responses)
        rules = reward.leading.config.judge_rules()
        if rules is not None and group.judging is not None:
            shown = 2 if rules.form == "pairs" else 1
            prompts = {names: ids for names, ids in group.judging.prompts.items() if len(names) == shown}
            group = replace(group, judging=replace(group.judging, prompts=prompts))
        if responses[0].outcome is None:  # else it was said
            group = replace(group, views=(group,) * len(reward.parts) if reward.parts != (reward,) else ())
            verdicts = {one: VERIFIER.equal(one) for one in questions_for(reward, group)}
            group = judge_for(reward, group, verdicts).group
        return self.read(reward, group, prices)

    def read(self, reward: AnyReward, group: EncodedGroup, prices: PriceList) -> GroupOutcome:
        tree = TreeBuilder()
        plan = reward.plan(group, tree)
        scores = prices.answer(tree, self.shape) if tree.num_queries else NO_SCORES
        return reward.read(group, plan, scores)

    def rewards(
        self,
        name: str,
        preset: str,
        responses: Sequence[Response],
        config: Mapping[str, object] | None = None,
    ) -> list[float]:
        bench = replace(self, bridge=()) if preset == "paper" and name == "opera" else self
        outcome = bench.price(resolve(name, preset, config or {}), responses)
        return [one.reward for one in outcome.trajectories]


@pytest.fixture(scope="session")
def hand() -> SimpleNamespace:
    """What tests build by hand; importlib mode has no sibling imports."""
    return SimpleNamespace(
        Bench=Bench, Response=Response, Paragraph=Paragraph, thought=thought, for_group=for_group
    )


def thought(*boundary_logprobs: float, reflective: Sequence[int] = (), **more: object) -> Response:
    """A response whose paragraphs, all different in words, lead to `boundary_logprobs`."""
    paragraphs = tuple(
        Paragraph(f"paragraph{n} says thing{n} about matter{n}", level, n in reflective)
        for n, level in enumerate(boundary_logprobs)
    )
    return Response(paragraphs, **more)  # type: ignore[arg-type]
