"""What the wire models refuse by themselves."""

import pytest
from pydantic import ValidationError

from opera_client.wire import Group, OtherContext, RewardRequest, ScoreItem, Trajectory, problem_of


def group(*ids):
    members = [{"id": name, "response": "<think>a</think>b"} for name in ids]
    return {"prompt": "p", "reference": "r", "trajectories": members}


@pytest.mark.parametrize("ids", [("a", "a"), ("1", None), (None, "0")])
def test_two_trajectories_of_one_name_are_refused_given_or_by_position(ids):
    with pytest.raises(ValidationError, match="appears twice in the group"):
        Group.model_validate(group(*ids))


@pytest.mark.parametrize("ids", [("a", "b"), (None, None), ("0", None), ("a", None)])
def test_names_that_differ_pass(ids):
    assert len(Group.model_validate(group(*ids)).trajectories) == 2


def test_a_mask_of_truth_values_is_a_mask():
    one = Trajectory(response_token_ids=[5, 6, 7], response_mask=[True, False, 1])
    assert one.response_mask == [1, 0, 1]
    assert ScoreItem(context="c", target_token_ids=[1, 2], target_mask=[False, True]).target_mask == [0, 1]


@pytest.mark.parametrize("mask", [[1.0], ["1"], [2], [None], "1", {"0": 1}])
def test_a_mask_of_anything_else_is_refused(mask):
    with pytest.raises(ValidationError):
        Trajectory(response_token_ids=[5], response_mask=mask)


def test_another_context_is_text_or_ids():
    with pytest.raises(ValidationError, match="not both"):
        OtherContext(name="a", context="c", context_token_ids=[1])


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        (Trajectory, {}, "give `response`, `response_token_ids` or `turns`"),
        (Trajectory, {"turns": []}, "is empty; give at least one"),
        (Trajectory, {"turns": {}}, "must be a list"),
        (Trajectory, {"response": 5}, "must be text"),
        (Trajectory, {"response_token_ids": [-1]}, "must be at least 0"),
        (Trajectory, {"response_token_ids": [2**31]}, "must be less than 2147483648"),
        (Trajectory, {"response_token_ids": [1.5]}, "must be a whole number"),
        (RewardRequest, {"rewards": ["opera"]}, "must be a JSON object"),
        (RewardRequest, {"rewards": []}, "is empty; give at least one"),
        (RewardRequest, {"rewards": [{"name": "opera"}] * 17}, "has more than 16 elements"),
        (RewardRequest, {"detail": "all"}, "must be 'reward', 'segments' or 'tokens'"),
        (RewardRequest, {"timeout_s": 0}, "must be more than 0"),
        (RewardRequest, {"timeout_s": "soon"}, "must be a number"),
        (RewardRequest, {"config": []}, "must be a JSON object"),
        (RewardRequest, {}, "is missing; give it"),
        (ScoreItem, {"context": "a", "target": "b", "entropy": "perhaps"}, "must be true or false"),
        (OtherContext, {"name": "", "context": "c"}, "is empty; give at least one"),
        (OtherContext, {"name": "n" * 101, "context": "c"}, "has more than 100 characters"),
    ],
)
def test_problems_are_told_without_python_words(kind, given, said):
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(given)
    assert problem_of(caught.value.errors()[0]) == said
