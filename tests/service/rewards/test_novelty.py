"""Which tokens of an answer are its own."""

from hypothesis import given
from hypothesis import strategies as st

from opera_service.rewards.novelty import RUN, own_tokens
from opera_service.scoring.tree import as_ids

ids = st.lists(st.integers(0, 5), max_size=30)


def own(answer, prompt):
    return own_tokens(as_ids(answer), as_ids(prompt)).tolist()


def test_a_run_of_the_prompt_is_not_the_answers_own():
    assert own([7, 1, 2, 3, 4, 8], [9, 1, 2, 3, 4, 5]) == [True, False, False, False, False, True]
    assert own([1, 2, 3, 8], [1, 2, 3, 4]) == [True] * 4


def test_of_a_loop_only_the_first_round_is_its_own():
    assert own([1, 2, 3, 4] * 3, []) == [True] * 4 + [False] * 8


def test_the_prompt_echoed_has_nothing_of_its_own():
    prompt = [3, 1, 4, 1, 5, 9, 2, 6]
    assert not any(own(prompt, prompt))


@given(ids, ids)
def test_by_definition(answer, prompt):
    def held(at, run):
        before = [answer[start : start + RUN] for start in range(at)]
        asked = [prompt[start : start + RUN] for start in range(len(prompt) - RUN + 1)]
        return len(run) == RUN and (run in before or run in asked)

    runs = [answer[at : at + RUN] for at in range(len(answer))]
    known = [held(at, run) for at, run in enumerate(runs)]
    expected = [not any(known[max(0, at - RUN + 1) : at + 1]) for at in range(len(answer))]
    assert own(answer, prompt) == expected
