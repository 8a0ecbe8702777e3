"""A number that is none reaches nobody."""

import numpy as np
import pytest

from opera_client.errors import EngineFailed
from opera_service.scoring.scores import TreeScores


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_who_reads_a_number_that_is_none_gets_an_error_and_nobody_else(value):
    found = np.zeros((3, 1))
    found[2] = value
    queries = np.int32([0, 2, 3])
    for scores in (
        TreeScores(found[:, 0], queries, "0", 3, entropies=np.zeros(3)),
        TreeScores(np.zeros(3), queries, "0", 3, entropies=found[:, 0]),
        TreeScores(np.zeros(3), queries, "0", 3, top_ids=np.zeros((3, 1), np.int32), top_logprobs=found),
    ):
        assert not scores.finite
        assert scores.of(0).tolist() == [0, 0]
        read = [lambda s=scores: s.of(1)]
        if scores.entropies is not None:
            assert scores.entropies_of(0).tolist() == [0, 0]
            read.append(lambda s=scores: s.entropies_of(1))
        if scores.top_logprobs is not None:
            assert scores.top_of(0, 1)[1].tolist() == [[0], [0]]
            read.append(lambda s=scores: s.top_of(1, 1))
        errors = 0
        for one in read:
            try:
                one()
            except EngineFailed as error:
                errors += "not finite" in error.message
        assert errors == 1
