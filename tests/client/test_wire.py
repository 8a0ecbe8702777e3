"""What the wire models refuse by themselves."""

import pytest
from pydantic import ValidationError

from opera_client.wire import Group


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
