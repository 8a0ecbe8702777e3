"""Attacks: every family, made from one prompt's data, all different from the honest response."""

from dataclasses import replace

import pytest

from opera_service.check.attacks import COPY_EDITS, FAMILIES, Material, attacks, markers

GIVEN = Material(
    prompt="Why do leaves fall in autumn?",
    reference="The tree saves water in winter. It closes the stems of its leaves, so they dry out and drop.",
    thought="Trees cannot drink from frozen soil.\n\nSo they should lose less water, and leaves lose much.",
    answer="A tree drops its leaves to keep its water while the ground is frozen.",
    other_answer="Heat the oil slowly and add the onions when it moves easily in the pan.",
)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_attacks(family: str) -> None:
    assert any(attack.family == family for attack in attacks(GIVEN))


def test_no_attack_is_the_honest_response_and_none_comes_twice() -> None:
    responses = [attack.response for attack in attacks(GIVEN)]
    assert GIVEN.response(GIVEN.thought, GIVEN.answer) not in responses
    assert len(set(responses)) == len(responses)
    assert len({(attack.family, attack.name) for attack in attacks(GIVEN)}) == len(responses)


def test_a_copy_is_tried_in_every_disguise() -> None:
    names = [attack.name for attack in attacks(GIVEN) if attack.family == "copy in the answer"]
    assert names == list(COPY_EDITS)


def test_attacks_use_the_tags_of_the_model() -> None:
    given = replace(GIVEN, open="[THINK]", close="[/THINK]")
    assert all("<think>" not in attack.response for attack in attacks(given))


def test_markers_keep_thought_and_answer() -> None:
    for _, response in markers(GIVEN):
        assert response.endswith(GIVEN.answer)
        assert "frozen soil" in response
