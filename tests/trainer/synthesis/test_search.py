"""The search for one trace, without a service: what is asked, what is chosen, and that it stops."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opera_client.wire import ExpandItem, ExpandItemResult, RankItem
from opera_trainer.seeds import seed_of
from opera_trainer.settings.synthesis import FilterSettings, SynthesisSettings
from opera_trainer.synthesis.search import Found, search, worthwhile

from .scripted import TASK, Dice, branch, run

OPEN = FilterSettings(min_gain=None, min_logprob=None, max_idle=None, max_repetition=None)
REFLECTION = re.compile(r"\b(Wait|But|Hmm|However)\b")


@given(
    seed=st.integers(0, 10**6),
    by=st.sampled_from(["step", "reference", "paper"]),
    cap=st.integers(0, 4),
    guided=st.integers(0, 3),
    max_steps=st.integers(1, 9),
)
def test_it_always_stops_within_its_caps(seed: int, by: str, cap: int, guided: int, max_steps: int):
    settings = SynthesisSettings(by=by, max_reflections=cap, guided=guided, max_steps=max_steps, candidates=3)
    found, asked = run(search(TASK, settings, 0), Dice(seed, closing=0.05))
    reflective = [paragraph for paragraph in found.paragraphs if REFLECTION.search(paragraph)]
    assert len(reflective) == found.reflections <= cap
    assert len(found.paragraphs) <= max_steps
    assert len(found.prices) == len(found.paragraphs) + 1
    assert len(set(found.paragraphs)) == len(found.paragraphs), "no paragraph comes twice"
    assert found.response.count("</think>") == 1
    assert len(asked) <= 2 * (2 * max_steps + 2)
    taken = 0
    for step, item in zip(found.steps, (one for one in asked if isinstance(one, ExpandItem)), strict=False):
        assert any(item.guiding_words) is False or taken < cap, "at the cap no word is injected"
        assert item.stop == list(settings.brakes), "and the model's own reflections are cut off, always"
        if step.chosen is not None:
            taken += step.candidates[step.chosen].guiding_word is not None


@given(seed=st.integers(0, 10**6), by=st.sampled_from(["step", "reference", "paper"]))
def test_the_best_usable_candidate_is_chosen(seed: int, by: str):
    found, _ = run(search(TASK, SynthesisSettings(by=by, filters=OPEN), 0), Dice(seed))
    for step in found.steps:
        usable = {
            at: one.score for at, one in enumerate(step.candidates) if one.unfit is None and one.score is not None
        }
        assert step.chosen == (max(usable, key=lambda at: (usable[at], -at)) if usable else None)


def test_what_is_asked_follows_from_task_seed_and_step_alone():
    settings = SynthesisSettings()
    first = run(search(TASK, settings, 7), Dice(1))
    assert first == run(search(TASK, settings, 7), Dice(1))
    seeds = [item.seed for item in first[1] if isinstance(item, ExpandItem)]
    assert len(set(seeds)) == len(seeds)
    assert seeds[0] == seed_of(7, "t", 0) != seed_of(8, "t", 0) != seed_of(7, "u", 0)
    assert all(0 <= seed < 2**32 for seed in seeds)


def stepwise(*rounds, answer="The shop now has 9 pears.", prices=lambda item: [-0.1] * len(item.candidates)):
    """A service that answers /expand with the given rounds of (text, word, stop, price)."""
    left = list(rounds)

    def reply(item):
        if isinstance(item, RankItem):
            ranked = Dice(0)(item)
            for one, price in zip(ranked.candidates, prices(item), strict=True):
                one.score = price
            return ranked
        ways = left.pop(0) if item.stop_after else [(answer, None, "<|im_end|>", -0.1)]
        return ExpandItemResult(id="0", status="ok", ranking=[], candidates=[branch(*way) for way in ways])

    return reply


def test_where_the_model_would_reflect_the_next_candidates_are_all_guided():
    settings = SynthesisSettings(by="step", candidates=2, guided=0, max_reflections=1)
    found, asked = run(
        search(TASK, settings, 0),
        stepwise(
            [("Ana took 3, so", "", "Wait", -0.1), ("Hm.\n\n", "", "\n\n", -0.5)],
            [("Hmm, it is 9.\n\n", "Hmm", "\n\n", -0.1), ("However", "However", "\n\n", -0.3)],
            [("It is 9.\n\n", "", "\n\n", -0.2), ("</think>", "", "</think>", -0.1)],
        ),
    )
    words = [item.guiding_words for item in asked if isinstance(item, ExpandItem)]
    assert words == [["", ""], ["Hmm", "However"], ["", ""], []]
    assert found.paragraphs == ["Ana took 3, so", "Hmm, it is 9."]
    assert (found.reflections, found.end, found.answered) == (1, "closed", True)
    assert found.response == ("<think>\nAna took 3, so\n\nHmm, it is 9.\n\n</think>\n\nThe shop now has 9 pears.")


def test_candidates_that_cannot_be_chosen_say_why():
    settings = SynthesisSettings(by="step", candidates=7, guided=0, max_steps=2)
    found, _ = run(
        search(TASK, settings, 0),
        stepwise(
            [
                ("Same.\n\n", "", "\n\n", -0.1), ("", "", "Wait", None), ("cut off", "", None, -0.01),
                ("The end.", "", "<|im_end|>", -0.01), ("same.\n\n", "", "\n\n", -0.01),
                ("Low.\n\n", "", "\n\n", -1),
                ("</think>", "", "</think>", None),
            ],
            [("SAME.\n\n", "", "\n\n", -0.01)] + [("</think>", "", "</think>", -0.5)] * 6,
        ),
    )  # fmt: skip
    assert [one.unfit for one in found.steps[0].candidates] == [
        None, "empty", "unfinished", "ended", "same", None, "unscored",
    ]  # fmt: skip
    assert found.steps[1].candidates[0].unfit == "repeat"
    assert found.paragraphs == ["Same."]
    assert found.end == "closed"


def test_stuck_when_nothing_can_be_chosen():
    settings = SynthesisSettings(by="step", candidates=1, guided=0)
    found, _ = run(search(TASK, settings, 0), stepwise([("", "", "Wait", None)]))
    assert (found.end, found.paragraphs) == ("stuck", [])


def test_by_reference_a_thought_may_close_early_only_when_nothing_goes_on():
    settings = SynthesisSettings(by="reference", candidates=2, guided=0)

    def prices(item):
        return {
            "<think>\n": {"</think>\n\n": -0.5, "Three.\n\n</think>\n\n": -0.9},
            "<think>\nThree.\n\n": {"</think>\n\n": -0.9, "Nine.\n\n</think>\n\n": -0.01},
        }.get(item.prefix, {})

    closing, three, nine = (
        ("</think>", "", "</think>", -0.1),
        ("Three.\n\n", "", "\n\n", -2),
        ("Nine.", "", "\n\n", -2),
    )
    found, asked = run(
        search(TASK, settings, 0),
        stepwise(
            [closing, three], [closing, nine], [closing, closing],
            prices=lambda item: [prices(item).get(text, -0.01) for text in item.candidates],
        ),
    )  # fmt: skip
    assert found.paragraphs == ["Three.", "Nine."]
    assert found.steps[0].candidates[0].unfit == "early"
    assert found.end == "closed"
    ranked = [item for item in asked if isinstance(item, RankItem)]
    assert all(item.reference == TASK.reference and item.by == "reference" for item in ranked)
    assert ranked[-1].candidates == [
        "</think>\n\n", "Three.\n\n</think>\n\n", "Three.\n\nNine.\n\n</think>\n\n",
    ]  # fmt: skip


def test_the_instruction_shapes_the_thought_and_not_the_answer():
    settings = SynthesisSettings(by="step", candidates=1, guided=0, instruction="Think aloud about: {question}")
    _, asked = run(search(TASK, settings, 0), stepwise([("</think>", "", "</think>", -0.1)]))
    assert asked[0].prompt[0].content == "Think aloud about: How many?"
    assert [item.prompt[0].content for item in asked[1:]] == ["How many?", "How many?"]
    assert asked[-1].prefix == "<think>\n</think>\n\n"
    assert asked[-1].n == 1


def test_criteria_are_those_of_the_wire():
    for by, rank in (("step", "branch"), ("paper", "sequence")):
        _, asked = run(search(TASK, SynthesisSettings(by=by), 0), Dice(0))
        assert asked[0].by == rank


@pytest.mark.parametrize(
    "wrong", [{"guided": 5}, {"guiding_words": ()}, {"instruction": "Think!"}, {"by": "best"}, {"unknown": 1}]
)
def test_settings_that_cannot_be_are_refused(wrong: dict):
    with pytest.raises(ValueError, match=r"guided|instruction|by|unknown"):
        SynthesisSettings(**wrong)


def test_a_trace_survives_its_journal():
    found, _ = run(search(TASK, SynthesisSettings(), 0), Dice(3))
    assert Found.model_validate_json(found.model_dump_json()) == found


def loosely(*rounds, **more):
    settings = SynthesisSettings(
        by="step", candidates=len(rounds[0]), guided=0, max_steps=2, paragraphs="loose", **more
    )
    return run(search(TASK, settings, 0), stepwise(*rounds))


def test_loose_paragraphs_are_cut_behind_a_sentence_and_an_ended_turn_closes_the_thought():
    found, _ = loosely(
        [("Ana has 3.5 pears. Bo has", "", None, -0.1)],
        [("So it is 9.", "", "<|im_end|>", -0.1)],
    )
    assert found.paragraphs == ["Ana has 3.5 pears.", "So it is 9."]
    assert found.end == "closed"
    assert found.response.startswith("<think>\nAna has 3.5 pears.\n\nSo it is 9.\n\n</think>\n\n")


@pytest.mark.parametrize(
    ("text", "kept"),
    [("她有三个梨。他还", "她有三个梨。"), ("- one\n- two\n- thr", "- one\n- two"), ("version 3.5 of", None)],
)
def test_where_a_loose_paragraph_is_cut(text, kept):
    found, _ = loosely([(text, "", None, -0.1)], [("", "", "<|im_end|>", -0.1)])
    assert found.paragraphs == ([] if kept is None else [kept])
    if kept is None:
        assert found.steps[0].candidates[0].unfit == "unfinished"


WORDS = ("Wait", "However,")


def test_a_guiding_word_must_stay_a_word():
    settings = SynthesisSettings(
        by="step", candidates=3, guided=3, max_steps=1, guiding_words=("Wait", "However,")
    )
    found, _ = run(
        search(TASK, settings, 0),
        stepwise(
            [
                ("Waiter: hello.\n\n", "Wait", "\n\n", -0.01), ("However,it is.\n\n", "However,", "\n\n", -0.2),
                ("Wait, no.\n\n", "Wait", "\n\n", -0.3),
            ]
        ),
    )  # fmt: skip
    assert [one.unfit for one in found.steps[0].candidates] == ["word", None, None]
    assert found.paragraphs == ["However,it is."]


def test_the_first_answer_that_ends_is_taken():
    settings = SynthesisSettings(by="step", candidates=1, guided=0, answers=3)

    def reply(item):
        if isinstance(item, RankItem):
            return Dice(0)(item)
        ways = [("</think>", "", "</think>", -0.1)]
        if not item.stop_after:
            assert item.n == 3
            ways = [("cut", None, None, -0.1), ("", None, "<|im_end|>", -0.1), ("Whole.", None, "<|im_end|>", -9)]
        return ExpandItemResult(id="0", status="ok", ranking=[], candidates=[branch(*way) for way in ways])

    found, _ = run(search(TASK, settings, 0), reply)
    assert (found.answer, found.answered) == ("Whole.", True)


def test_a_thought_is_worth_its_share_of_the_surprise():
    filters = FilterSettings(min_gain=None, min_explained=0.1)
    assert worthwhile(-1.8, -2.0, filters)
    assert not worthwhile(-1.81, -2.0, filters)
    assert worthwhile(-0.18, -0.2, filters)
