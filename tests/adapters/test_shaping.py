"""Token weights and token rewards on their way to a trainer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opera_adapters.shaping import arrays_of, shaped
from opera_client.errors import InvalidRequest
from opera_client.wire import TrajectoryResult


def result(**arrays):
    return TrajectoryResult(id="0", status="ok", reward=0.0, components={}, **arrays)


def test_a_reward_that_says_nothing_about_tokens_changes_nothing():
    assert arrays_of(result(), 3) is None
    assert shaped([1.0, -2.0], None) == [1.0, -2.0]


def test_what_is_missing_is_neutral_and_padding_is_nothing():
    assert arrays_of(result(token_weights=[0.5, 2.0]), 3) == ([0.5, 2.0, 0.0], [0.0, 0.0, 0.0])
    assert arrays_of(result(token_rewards=[0.5, 2.0]), 3) == ([1.0, 1.0, 0.0], [0.5, 2.0, 0.0])
    both = arrays_of(result(token_weights=[0.5, 2.0], token_rewards=[0.1, 0.0]), 2)
    assert shaped([1.0, -1.0], both) == pytest.approx([0.6, -2.0])


@given(arrays=st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5), st.floats(-5, 5)), max_size=20))
def test_shaping_is_affine_token_by_token(arrays):
    advantages, weights, rewards = (list(one) for one in zip(*arrays, strict=True)) if arrays else ([], [], [])
    found = shaped(advantages, (weights, rewards))
    assert found == [w * a + r for a, w, r in zip(advantages, weights, rewards, strict=True)]


def test_arrays_of_another_response_are_refused():
    with pytest.raises(InvalidRequest, match="send the response as ids"):
        arrays_of(result(token_weights=[1.0, 1.0]), 1)
