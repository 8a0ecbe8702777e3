"""A number that is none reaches nobody."""

import numpy as np
import pytest

from opera_client.errors import EngineFailed
from opera_service.scoring.scores import NO_SCORES, TreeScores


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


def whole() -> TreeScores:
    """Two queries of two and one target, every kind of number, and a second model's."""
    second = TreeScores(np.array([-9.0]), np.int32([0, 1]), "1", 1)
    return TreeScores(
        np.array([-1.0, -2.0, -3.0]), np.int32([0, 2, 3]), "0", 3, entropies=np.array([1.0, 2.0, 3.0]),
        top_ids=np.int32([[1], [2], [3]]), top_logprobs=np.array([[-0.1], [-0.2], [-0.3]]), second=second,
    )  # fmt: skip


def test_a_part_has_the_numbers_of_its_queries_in_their_order():
    part = whole().part([1, 0], np.int32([0, 1, 3]))
    assert [part.of(query).tolist() for query in range(2)] == [[-3.0], [-1.0, -2.0]]
    assert [part.entropies_of(query).tolist() for query in range(2)] == [[3.0], [1.0, 2.0]]
    assert [part.top_of(query, 1)[0].tolist() for query in range(2)] == [[[3]], [[1], [2]]]
    assert [part.top_of(query, 1)[1].tolist() for query in range(2)] == [[[-0.3]], [[-0.1], [-0.2]]]
    assert part.second is None
    plain = TreeScores(whole().logprobs, whole().query_start, "0", 3).part([0], np.int32([0, 2]))
    assert plain.of(0).tolist() == [-1.0, -2.0]
    assert (plain.entropies, plain.top_ids, plain.top_logprobs) == (None, None, None)


def test_a_second_model_s_numbers_count():
    scores = whole()
    assert scores.finite
    assert (scores.num_scored, scores.of_second.num_scored) == (4, 1)
    assert scores.of_second.of(0).tolist() == [-9.0]
    scores.of_second.logprobs[0] = np.nan
    assert not scores.finite


def test_what_was_not_asked_for_is_a_mistake_to_read():
    plain = TreeScores(np.zeros(1), np.int32([0, 1]), "0", 1)
    for read in (lambda: plain.of_second, lambda: plain.entropies_of(0), lambda: plain.top_of(0, 1)):
        with pytest.raises(ValueError, match="the tree"):
            read()
    assert (NO_SCORES.num_scored, len(NO_SCORES.query_start) - 1, NO_SCORES.tokens_computed) == (0, 0, 0)
