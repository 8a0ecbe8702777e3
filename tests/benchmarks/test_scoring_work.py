"""The benchmark's own arithmetic: FLOPs against a counter, and the work it sets."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import scoring_work as work


@pytest.fixture(scope="module")
def loaded():
    torch.set_num_threads(1)
    return work.make_model("small", "cpu")


def test_flops_of_a_forward_are_those_that_a_counter_counts(loaded):
    length, flops = 50, work.Flops("small")
    loaded.model.set_attn_implementation("eager")  # matrix products that the counter sees
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        loaded.model(input_ids=torch.zeros(1, length, dtype=torch.long))
    counted = counter.get_total_flops()
    # Eager attention computes the whole square; the benchmark counts what is visible.
    square = flops.tokens(np.full(length, length - 1)) + length * flops.head
    assert counted == square
    one = [flops.tokens(np.full(1, position)) for position in range(length)]
    assert flops.tokens(np.arange(length)) == pytest.approx(sum(one))


def test_the_grid_asks_for_initial_boundaries_and_full_of_every_response():
    groups = work.group_contexts((2, 3, 40, 5), 100)
    assert [len(group) for group in groups] == [5, 5]
    assert [len(ids) - context for group in groups for ids, context in group] == [5] * 10
    assert {(group[0][1], group[-1][1]) for group in groups} == {(work.PROMPT, work.PROMPT + 40)}
    tree = work.make_tree([context for group in groups for context in group])
    # The initial context is shared by both responses; every other one has a branch of its own.
    assert tree.num_tokens == work.PROMPT + 2 * 40 + 9 * 4
    assert tree.naive_tokens == sum(len(ids) for group in groups for ids, _ in group)


def test_budget_batches_hold_every_context_once_within_the_budget():
    contexts = [context for group in work.group_contexts((2, 6, 40, 5), 100) for context in group]
    batches = work.budget_batches(contexts, 500)
    assert sum(len(batch) for batch in batches) == len(contexts)
    assert all(len(batch) * max(len(ids) for ids, _ in batch) <= 500 for batch in batches)
    assert len(batches) < len(contexts)
