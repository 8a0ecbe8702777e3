"""Scores that read the cache a rollout left, against one plain transformers pass a context."""

from __future__ import annotations

import numpy as np
from tests.rollout.conftest import BLOCK, NATS, STEP_TOKENS, start_engine

REFERENCE = 33
BOUNDARIES = 16


def _rollout(engine, prompt, number, *, tokens=300):
    """Generate from a prompt; return all ids and boundaries spread over the response."""
    start = prompt(number)
    response = engine.roll_out(start, tokens=tokens, seed=number)
    cuts = np.linspace(0, tokens, BOUNDARIES).astype(int)
    return start + response, [len(start) + int(cut) for cut in cuts]


def test_generate_then_score(engine, oracle, prompt):
    """Every boundary is exact, and costs its reference and less than a block."""
    ids, boundaries = _rollout(engine, prompt, 1)
    reference = prompt(2)[:REFERENCE]
    scored = engine.score([(ids[:cut] + reference, cut) for cut in boundaries])
    assert max(map(oracle.error, scored)) < NATS
    assert sum(one.computed for one in scored) <= BOUNDARIES * (REFERENCE + BLOCK)
    for one in scored:  # the trunk as far as whole blocks go, never the first scored row
        assert one.cached == (one.start - 1) // BLOCK * BLOCK


def test_again_and_again(engine, oracle, prompt):
    """By then every block of context and reference is in the cache: rows would be lost first here."""
    ids, boundaries = _rollout(engine, prompt, 3)
    reference = prompt(4)[: 2 * BLOCK + 3]
    asked = [(ids[:cut] + reference, cut) for cut in boundaries]
    first, *repeats = [engine.score(asked) for _ in range(3)]
    assert max(map(oracle.error, first)) < NATS
    for repeat in repeats:
        assert max(map(oracle.error, repeat)) < NATS
        for one, before in zip(repeat, first, strict=True):
            assert one.cached < one.start
            np.testing.assert_allclose(one.logprobs, before.logprobs, atol=1e-6)


def test_contexts_that_end_on_blocks(engine, oracle, prompt):
    ids, _ = _rollout(engine, prompt, 5)
    reference = prompt(6)[:20]
    cuts = [end + near for end in range(BLOCK, len(ids) - 1, BLOCK) for near in (-1, 0, 1)]
    for _ in range(2):
        assert max(map(oracle.error, engine.score([(ids[:cut] + reference, cut) for cut in cuts]))) < NATS


def test_a_response_that_contains_the_reference(engine, oracle, prompt):
    """Context and reference together are a prefix of what is cached already."""
    ids, boundaries = _rollout(engine, prompt, 7)
    asked = [(ids[: cut + 40], cut) for cut in boundaries if cut + 40 <= len(ids)]
    scored = engine.score([*asked, (ids, 1), (ids, len(ids) - 1)])
    assert max(map(oracle.error, scored)) < NATS


def test_references_of_one_token_and_longer_than_a_step(engine, oracle, prompt):
    ids, _ = _rollout(engine, prompt, 8)
    long = prompt(9, tokens=2 * STEP_TOKENS + 7)
    asked = [([*ids[:200], long[0]], 200), (ids[:200] + long, 200), (ids[:1] + long, 1)]
    for _ in range(2):
        assert max(map(oracle.error, engine.score(asked))) < NATS


def test_prompts_nobody_rolled_out(engine, oracle, prompt):
    """A cold trunk longer than a step is prefilled in chunks, and shared by those that come with it."""
    ids = prompt(10, tokens=5 * STEP_TOKENS)
    reference = prompt(11)[:REFERENCE]
    cuts = [200, 350, 500, len(ids)]
    scored = engine.score([(ids[:cut] + reference, cut) for cut in reversed(cuts)])
    assert max(map(oracle.error, scored)) < NATS


def test_32_at_once_while_rollouts_run(engine, oracle, prompt):
    ids, boundaries = _rollout(engine, prompt, 12)
    reference = prompt(13)[:REFERENCE]
    asked = [(ids[:cut] + reference, cut) for cut in boundaries + [cut + 3 for cut in boundaries]]
    prompts = [prompt(number) for number in range(20, 28)]
    together = engine.run(prompts, asked)
    assert max(map(oracle.error, together.scored)) < NATS
    engine.forget()
    alone = engine.run(prompts)
    assert (together.responses, together.sums) == (alone.responses, alone.sums)


def test_preemption(model, oracle, prompt, monkeypatch):
    """Too small a cache for what is asked at once: requests lose their blocks and begin again."""
    engine = start_engine(model, num_gpu_blocks_override=40, max_model_len=1024)
    preempted, preempt = [], engine.scheduler._preempt_request

    def noted(request, *args, **kwargs):
        preempted.append(request)
        return preempt(request, *args, **kwargs)

    monkeypatch.setattr(engine.scheduler, "_preempt_request", noted)
    ids, boundaries = _rollout(engine, prompt, 14)
    reference = prompt(15, tokens=STEP_TOKENS)
    asked = [(ids[:cut] + reference, cut) for cut in boundaries]
    found = engine.run([prompt(number) for number in range(30, 42)], asked)
    assert any(one.sampling_params.prompt_logprobs is not None for one in preempted)
    assert max(map(oracle.error, found.scored)) < NATS
