"""What the wire models refuse by themselves."""

import math

import pytest
from pydantic import ValidationError

from opera_adapters._grouping import Row
from opera_client._parse import item_of, plain_json
from opera_client.errors import InvalidRequest
from opera_client.wire import (
    Group,
    MemberRequest,
    OtherContext,
    RewardRequest,
    ScoreItem,
    Trajectory,
    first_problem,
    problem_of,
)


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
        (
            MemberRequest,
            {"group_id": "g" * 513, "group_size": 1, "member_id": "m"},
            "has more than 512 characters",
        ),
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


@pytest.mark.parametrize(
    ("prompt", "where", "said"),
    [
        ([{"role": "user", "content": [{"type": "image_url"}]}], "prompt.0",
         "part 0 of the content is of type 'image_url'; only text can be read"),
        ([{"role": "user", "content": "a"}, {"content": "b"}], "prompt.1.role", "is missing; give it"),
        ([{"role": "user"}], "prompt.0.content", "is missing; give it"),
        (7, "prompt", "must be text; or must be a list"),
    ],
)  # fmt: skip
def test_a_wrong_message_is_told_what_is_wrong_with_it(prompt, where, said):
    with pytest.raises(ValidationError) as caught:
        Group.model_validate({**group("a"), "prompt": prompt})
    assert first_problem(caught.value, Group) == (where, said)
    with pytest.raises(InvalidRequest) as told:
        item_of(Group, {**group("a"), "prompt": prompt}, "groups.3")
    assert (told.value.field, told.value.message) == (f"groups.3.{where}", said)
    row = Row({"prompt": prompt, "reference": "r"}, {"response": "x"}).checked()
    assert row.problem == f"{where}: {said}"


def test_further_wrong_fields_are_counted():
    with pytest.raises(ValidationError) as caught:
        Group.model_validate({**group("a"), "prompt": 7, "task": "poem", "group_id": 1.5})
    assert first_problem(caught.value, Group)[1].endswith(" (and 2 more)")


@pytest.mark.parametrize(
    ("kind", "given", "field", "said"),
    [
        (Group, {**group("a"), "refrence": "b"}, "refrence", "is no field here; did you mean `reference`?"),
        (Group, {**group("a"), "colour": 1}, "colour", "is no field here; mend its name or leave it out"),
        (Group, {**group("a"), "trajectories": [{"respons": "a"}]}, "trajectories.0.respons",
         "is no field here; did you mean `response`?"),
    ],
)  # fmt: skip
def test_a_field_that_is_none_is_told_which_one_is_like_it(kind, given, field, said):
    with pytest.raises(InvalidRequest) as told:
        item_of(kind, given, "items.2")
    assert (told.value.field, told.value.message.partition(" (and")[0]) == (f"items.2.{field}", said)


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"a": 1.0, "b": math.inf}, "config.b"),
        ({"a": {"b": [0.0, {"c": math.nan}]}}, "config.a.b.1.c"),
        ({"a": [-math.inf], "b": math.nan}, "config.a.0"),
    ],
)
def test_a_number_that_is_none_is_named(config, field):
    with pytest.raises(InvalidRequest, match="must be a finite number") as told:
        plain_json(config, "config")
    assert told.value.field == field


def test_what_is_no_json_at_all_is_refused_as_a_whole():
    circle: dict = {}
    circle["again"] = circle
    for config in (circle, {"a": {1, 2}}):
        with pytest.raises(InvalidRequest, match="cannot travel as JSON") as told:
            plain_json(config, "config")
        assert told.value.field == "config"
