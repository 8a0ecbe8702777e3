"""Right and wrong: comparison, the guarded process, and what cannot be told."""

import threading
from dataclasses import replace

import pytest

from opera_client.errors import OutcomeUnavailable
from opera_service.rewards.outcomes import judge, questions, same_answer
from opera_service.rewards.registry import resolve
from opera_service.rewards.verifier import Question, Verifier

HARDENED = resolve("opera", "hardened", {}).config
HANGS = "10^{10^{10^{10}}}"


@pytest.fixture(scope="module")
def verifier():
    made = Verifier(deadline_s=3.0)
    yield made
    made.close()


def verdict(verifier, question):
    try:
        return verifier.equal(question)
    except OutcomeUnavailable as problem:
        return problem


def told(verifier, reference, answer):
    """What is said in the end about an answer."""
    said = same_answer(reference, answer)
    return verifier.equal(said) if isinstance(said, Question) else said


@pytest.mark.parametrize(
    ("reference", "answer", "same"),
    [
        ("1/2", r"\frac{1}{2}", True),
        (r"The result is \boxed{\frac12}.", "0.5", True),
        ("The answer is 42.", "42", True),
        ("$x = 3$", "3", True),
        ("10000000000", "10^{10}", True),
        ("3", "4", False),
        ("3", "", False),
        ("x^2 + 1", "1 + x^2", True),
        (r"\text{Tuesday}", "Tuesday", True),
        ("listen", "silent", False),  # as products of letters they are equal
        ("Listen", "listen", True),
        ("}{ ", "}{", True),
    ],
)
def test_answers_are_compared_as_mathematics_or_words(verifier, reference, answer, same):
    assert told(verifier, reference, answer) is same


def test_a_hostile_expression_is_unavailable_and_the_next_one_is_judged(verifier):
    with pytest.raises(OutcomeUnavailable, match="no answer within 3 s"):
        verifier.equal(Question(r"\boxed{3}", rf"\boxed{{{HANGS}}}"))
    assert verifier.equal(Question(r"\boxed{3}", r"\boxed{6/2}")) is True


def test_an_unreadable_reference_is_unavailable_not_wrong(verifier):
    with pytest.raises(OutcomeUnavailable, match="reference"):
        told(verifier, "{", "3")
    with pytest.raises(OutcomeUnavailable, match="10000 characters"):
        told(verifier, "3", "1" * 10_001)


def test_it_works_from_several_threads_at_once(verifier):
    found = {}

    def ask(number):
        found[number] = verifier.equal(
            Question(rf"\boxed{{{number}}}", rf"\boxed{{{number % 3 + number - number % 3}}}")
        )

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(8), True)


def test_a_closed_verifier_starts_again(verifier):
    verifier.close()
    assert verifier.equal(Question(r"\boxed{2}", r"\boxed{4/2}")) is True


def test_judging_keeps_the_good_and_names_the_rest(hand, verifier):
    answers = [r"\boxed{7}", rf"\boxed{{{HANGS}}}", "seven", r"\boxed{8}"]
    group, _ = hand.Bench(task="math", reference="7").group([hand.thought(-1.0, answer=one) for one in answers])
    asked = questions(group, HARDENED)
    judged = judge(group, HARDENED, {one: verdict(verifier, one) for one in asked})
    assert [(one.id, one.outcome) for one in judged.group.trajectories] == [
        ("0", True),
        ("2", False),
        ("3", False),
    ]
    assert list(judged.errors) == [1]


def test_open_tasks_and_rewards_without_outcome_are_left_alone(hand):
    group, _ = hand.Bench(task="open").group([hand.thought(-1.0)])
    assert judge(group, HARDENED).group is group
    math = replace(group, task="math")
    assert judge(math, resolve("logprob", "hardened", {}).config).group is math


def test_what_was_not_asked_is_unavailable_and_never_wrong(hand):
    group, _ = hand.Bench(task="math", reference="7").group([hand.thought(-1.0, answer=r"\boxed{14/2}")])
    judged = judge(group, HARDENED)
    assert not judged.group.trajectories
    assert isinstance(judged.errors[0], OutcomeUnavailable)
