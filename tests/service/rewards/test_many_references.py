"""Several references: the reward by each, combined; the numbers by hand from the rewards by one."""

import numpy as np
import pytest

from opera_client.wire import Group
from opera_service.rewards.many_references import OverReferences, by_reference, logmeanexp
from opera_service.rewards.registry import resolve
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import TokenTree, TreeBuilder
from opera_service.trajectories.byte_tokenizer import ByteTokenizer
from opera_service.trajectories.encode import encode_group
from opera_service.trajectories.field_tokenizer import FieldTokenizer

TOKENIZER = ByteTokenizer()
FIELDS = FieldTokenizer(TOKENIZER, TOKENIZER.vocab_size, 10_000)
RESPONSES = [
    "<think>\nIt is the seventh one, I think.\n\nWait, perhaps the eighth is meant here.\n</think>\n\nThe eighth.",
    "<think>\nNobody can know this at all.\n</think>\n\nNo idea.",
    "<think>\nWait, this one is easy to see.\n</think>\n\nSeven.",
]
TEXTS = ["It is the eighth.", "The eighth one.", "Number eight, of course"]


def encoded(reference, config=None):
    chosen = resolve("opera", "hardened", config or {})
    group = Group(prompt="Which one?", reference=reference, trajectories=[{"response": one} for one in RESPONSES])
    found = encode_group(group, 0, FIELDS, chosen.config)
    assert found.errors == {}
    return chosen, found.group


def made_up(tree: TokenTree) -> TreeScores:
    """Numbers that depend on nothing but context and target."""
    logprobs = []
    for query in range(tree.num_queries):
        path, context = tree.query_context(query)
        for at in range(context, len(path)):
            seed = np.random.default_rng(abs(hash(path[: at + 1].tobytes())) % 2**32)
            logprobs.append(-4 * seed.random())
    return TreeScores(np.array(logprobs), tree.query_start, "0", tree.num_tokens)


def outcome(reward, group):
    tree = TreeBuilder()
    plan = reward.plan(group, tree)
    built = tree.build()
    return reward.read(group, plan, made_up(built)), built


@pytest.mark.parametrize(
    ("combination", "shape"),
    [("mean", np.mean), ("max", np.max), ("min", np.min), ("logmeanexp", lambda v: np.log(np.mean(np.exp(v))))],
)
def test_the_reward_is_combined_from_those_by_one_reference(combination, shape):
    alone = [outcome(*encoded(text))[0].trajectories for text in TEXTS]
    chosen, group = encoded(TEXTS, {"references": combination})
    together, _ = outcome(OverReferences(chosen), group)
    for at, found in enumerate(together.trajectories):
        by_one = [one[at] for one in alone]
        assert found.reward == pytest.approx(shape([one.reward for one in by_one]), abs=1e-12)
        for name, value in found.components.items():
            assert value == pytest.approx(shape([one.components[name] for one in by_one]), abs=1e-12)
        assert [one.reward for one in found.by_reference] == pytest.approx([one.reward for one in by_one])
        for ours, theirs in zip(found.by_reference, by_one, strict=True):
            np.testing.assert_array_equal(ours.token_logprobs, theirs.token_logprobs)


def test_what_the_references_share_is_on_the_tree_once():
    (_, alone), (chosen, group) = outcome(*encoded(TEXTS[0])), encoded(TEXTS)
    _, together = outcome(OverReferences(chosen), group)
    assert together.num_tokens < 2 * alone.num_tokens


def test_each_reference_stands_alone_in_turn():
    _, group = encoded(TEXTS)
    parts = by_reference(group)
    assert [one.reference for one in parts] == TEXTS
    assert all(one.alternatives == () for one in parts)
    assert [TOKENIZER.decode(one.reference_ids, skip_special=True) for one in parts] == TEXTS


def test_one_reference_in_a_list_is_one_reference():
    _, listed = encoded(TEXTS[:1])
    _, plain = encoded(TEXTS[0])
    assert listed.alternatives == ()
    assert listed.reference_ids.tolist() == plain.reference_ids.tolist()


def test_a_wrong_alternative_is_named():
    group = Group(prompt="Q", reference=["fine", " \n"], trajectories=[{"response": "a"}])
    errors = encode_group(group, 0, FIELDS, resolve("opera", "hardened", {}).config).errors
    assert errors[0].field == "groups.0.reference.1"


def test_logmeanexp_lies_between_mean_and_maximum_and_never_overflows():
    values = np.array([-800.0, 3.0, 900.0])
    assert values.mean() < logmeanexp(values) <= values.max()
    assert logmeanexp(np.array([2.0, 2.0])) == 2.0
