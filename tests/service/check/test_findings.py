"""What a check makes of measured groups, by hand."""

from dataclasses import replace

import pytest

from opera_client.wire import Group, GroupResult, TrajectoryResult
from opera_service.check.findings import Thresholds, findings
from opera_service.check.measuring import Measured
from opera_service.check.samples import Sample


def measured(prompts=("Why is it so?",), values=(0.0, 1.0), flags=(), reference="Because it is.", cut_off=()):
    samples, honest = [], []
    for at, prompt in enumerate(prompts):
        responses = [{"response": f"word {number}"} for number in range(len(values))]
        group = Group(prompt=prompt, reference=reference, trajectories=responses)
        samples.append(Sample(group, (), None, cut_off=cut_off))
        honest.append(
            GroupResult(
                group_id=str(at),
                size=len(values),
                scored=len(values),
                initial_mean_logprob=-1.0,
                reference_tokens=4,
                trajectories=[
                    TrajectoryResult(
                        id=str(number),
                        status="ok",
                        reward=value / 2,
                        components={"value": value},
                        flags=list(flags),
                    )
                    for number, value in enumerate(values)
                ],
            )
        )
    return Measured(samples, honest, None, {}, 100, 50, 1.0)


def found(**given):
    return {one.name: one for one in findings(measured(**given), Thresholds())}


def test_the_advised_temperature_follows_the_spread():
    spread = found(values=(0.0, 0.4, 1.0))["median spread of `value` in a group, nats a token"]
    assert spread.value == pytest.approx(1.0)
    assert "0.25 to 1.00" in spread.advice


def test_a_policy_that_does_not_think_is_advised_to_say_so():
    told = found(flags=("think_missing", "format_gate"))["responses without a think block"]
    assert told.value == 1
    assert "think.mode=none" in told.advice
    assert found()["responses without a think block"].advice == ""


def test_references_with_thoughts_and_other_scripts_are_counted():
    told = found(prompts=("为什么会下雨？", "Why?"), reference="<think>hm</think>Rain.")
    assert told["prompts in another script than Latin"].value == 0.5
    assert told["references that hold a thought"].value == 1
    assert "reference_part" in told["references that hold a thought"].advice
    assert found()["references that hold a thought"].advice == ""


def test_a_group_is_without_information_when_no_member_has_any():
    one_has_none = measured()
    one_has_none.honest[0].trajectories[0].flags.append("uninformative")
    name = "groups with information"
    assert {one.name: one.value for one in findings(one_has_none, Thresholds())}[name] == 1
    assert found(flags=("uninformative",))[name].value == 0


def test_few_groups_are_a_warning_and_their_intervals_are_wide():
    one, eight = found()["groups checked"], found(prompts=("Why?",) * 8)["groups checked"]
    assert (one.value, one.level, eight.value, eight.level) == (1, "warning", 8, "ok")
    assert "100 %" in one.advice
    shares = [found(prompts=("Why?",) * count)["groups with information"] for count in (1, 8)]
    assert [share.value for share in shares] == [1, 1]
    # Wilson's interval of n of n is n / (n + 1.96²) to 1.
    assert [share.low for share in shares] == pytest.approx([1 / (1 + 3.8415), 8 / (8 + 3.8415)], abs=1e-4)
    assert [share.high for share in shares] == [1, 1]
    single = found(values=(0.0, 0.5, 1.0))["correlation of `value` with the reward"]
    assert (single.value, single.low, single.high) == (pytest.approx(1), None, None)


def test_the_memory_of_the_engine_is_told_where_it_is_known():
    known = replace(measured(), memory_bytes=3 * 2**29)
    told = {one.name: one.value for one in findings(known, Thresholds())}
    assert told["memory of the engine, GiB"] == 1.5
    assert "memory of the engine, GiB" not in found()


def test_what_was_cut_off_is_what_its_sampler_says_else_what_its_flags_show():
    name = "responses that were cut off"
    assert found()[name].value == 0
    assert found(flags=("think_unclosed",))[name].value == 1
    assert found(flags=("empty_answer",), cut_off=(False, None))[name].value == 0.5
    told = found(cut_off=(True, False))[name]
    assert (told.value, told.level) == (0.5, "warning")
    assert "more tokens" in told.advice
