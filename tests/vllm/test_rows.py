"""How rows are read in vLLM's worker: V1's in pieces of any size, and V2's reader, overheard.

V2 runs on a GPU alone. Here its own `PromptLogprobsWorker` runs on the CPU, its two kernels replaced by torch.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from opera_service.engines.vllm import rows

VOCAB, WIDE = 11, 7


class Asked(SimpleNamespace):
    """Sampling parameters of one request."""

    @classmethod
    def of(cls, *, top: int, first: int | None, entropy: bool) -> Asked:
        extra = None if first is None else {rows.FIRST: first} | ({rows.ENTROPY: True} if entropy else {})
        return cls(prompt_logprobs=top + entropy, prompt_logprob_token_ids=None, extra_args=extra)


def every(hidden: torch.Tensor) -> torch.Tensor:
    return HEAD(hidden).double().log_softmax(-1)


HEAD = torch.nn.Linear(WIDE, VOCAB).requires_grad_(requires_grad=False)


def expected(
    hidden: torch.Tensor, ids: list[int], first: int, top: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    table = every(hidden[first : len(ids) - 1])
    targets = table[torch.arange(len(table)), torch.tensor(ids[first + 1 :])]
    best = table.topk(top, dim=-1)
    return targets.numpy(), best.indices.numpy(), -(table.exp() * table).sum(-1).numpy()


def check(found, hidden, ids, first, top, *, entropy: bool) -> None:
    targets, best, entropies = expected(hidden, ids, first, top)
    count = len(targets)
    assert found.logprob_token_ids[-count:, 0].tolist() == ids[first + 1 :]
    np.testing.assert_allclose(found.logprobs[-count:, 0], targets, atol=1e-5)
    np.testing.assert_array_equal(found.logprob_token_ids[-count:, 1 : 1 + top], best)
    if entropy:
        np.testing.assert_allclose(found.logprobs[-count:, -1], entropies, atol=1e-5)


class V1Runner:
    """As much of vLLM's V1 model runner as reads rows."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.model_config = SimpleNamespace(get_vocab_size=lambda: VOCAB)
        self.model = SimpleNamespace(compute_logits=self.compute_logits)
        self.requests, self.num_prompt_logprobs, self.most_rows = {}, {}, 0
        self.query_start_loc = SimpleNamespace(np=np.zeros(9, np.int64))
        self.input_batch = SimpleNamespace(req_id_to_index={})

    def compute_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        self.most_rows = max(self.most_rows, len(hidden))
        return HEAD(hidden)

    def _get_prompt_logprobs_dict(self, hidden, scheduled):
        return {name: "vLLM's own" for name in self.num_prompt_logprobs if name in scheduled}

    def step(self, scheduled: dict[str, int], hidden: dict[str, torch.Tensor]) -> dict:
        self.input_batch.req_id_to_index = {name: at for at, name in enumerate(scheduled)}
        self.query_start_loc.np = np.cumsum([0, *scheduled.values()])
        parts = [
            hidden[name][(done := self.requests[name].num_computed_tokens) : done + count]
            for name, count in scheduled.items()
        ]
        found = self._get_prompt_logprobs_dict(torch.cat(parts), scheduled)
        for name, count in scheduled.items():
            self.requests[name].num_computed_tokens += count
        return found

    def add(self, name: str, ids: list[int], asked: Asked) -> None:
        self.num_prompt_logprobs[name] = asked.prompt_logprobs
        self.requests[name] = SimpleNamespace(
            prompt_token_ids=ids,
            num_computed_tokens=0,
            in_progress_prompt_logprobs_cpu=None,
            sampling_params=asked,
        )


@pytest.mark.parametrize("step", [1, 3, 5, 90])
@pytest.mark.parametrize(("top", "entropy"), [(0, False), (0, True), (3, True), (2, False)])
def test_v1_reads_ours_in_pieces_and_leaves_the_others_alone(step, top, entropy, monkeypatch):
    monkeypatch.setattr(rows, "chunk_rows", lambda *_: 4)
    torch.manual_seed(step)
    runner, ids = V1Runner(), {"a": [3, 1, 4, 1, 5, 9, 2, 6, 5, 3], "b": [2, 7, 1, 8], "c": [1, 2, 3]}
    hidden = {name: torch.randn(len(some) + 1, WIDE) for name, some in ids.items()}
    first = {"a": 2, "b": 0, "c": None}
    rows.install(runner)
    for name, some in ids.items():
        runner.add(name, some, Asked.of(top=top, first=first[name], entropy=entropy))
    found: dict = {}
    for _ in range(12):
        left = {name: len(some) - runner.requests[name].num_computed_tokens for name, some in ids.items()}
        scheduled = {name: min(step, count) for name, count in left.items() if count}
        answer = runner.step(scheduled, hidden) if scheduled else {}
        assert "c" not in answer or answer["c"] == "vLLM's own"
        found |= answer
    for name in ("a", "b"):
        check(found[name], hidden[name], ids[name], first[name], top, entropy=entropy)
        assert len(found[name].logprobs) == len(ids[name]) - 1 - first[name]
        assert runner.requests[name].in_progress_prompt_logprobs_cpu is None
    assert list(runner.num_prompt_logprobs) == ["c"]
    assert runner.most_rows <= 4


def test_v1_a_preempted_prompt_starts_again(monkeypatch):
    monkeypatch.setattr(rows, "chunk_rows", lambda *_: 4)
    runner, ids = V1Runner(), [3, 1, 4, 1, 5, 9]
    hidden = {"a": torch.randn(7, WIDE)}
    rows.install(runner)
    runner.add("a", ids, Asked.of(top=1, first=1, entropy=True))
    assert runner.step({"a": 3}, hidden) == {}
    assert runner._get_prompt_logprobs_dict(torch.zeros(0, WIDE), {}) == {}  # out of this step
    runner.requests["a"].num_computed_tokens = 0
    (found,) = runner.step({"a": 6}, hidden).values()
    check(found, hidden["a"], ids, 1, 1, entropy=True)


def test_v1_a_row_that_was_not_computed_belongs_to_no_token():
    runner, ids = V1Runner(), [3, 1, 4, 1, 5, 9]
    rows.install(runner)
    runner.add("a", ids, Asked.of(top=0, first=1, entropy=False))
    runner.requests["a"].num_computed_tokens = 3  # a cache that gave more than it might
    (found,) = runner.step({"a": 3}, {"a": torch.randn(6, WIDE)}).values()
    assert found.logprob_token_ids[:2, 0].tolist() == [-1, -1]
    assert torch.isnan(found.logprobs[:2]).all()


@pytest.fixture
def v2(monkeypatch):
    """vLLM's own reader of the V2 runner, with its kernels in torch, and chunks of 5 rows."""
    from vllm.v1.worker.gpu.sample import logprob, prompt_logprob

    def targets(num_tokens, starts, mapping, computed, all_ids):
        found = torch.zeros(num_tokens, dtype=torch.int64)
        for at, state in enumerate(mapping.tolist()):
            for token in range(int(starts[at]), int(starts[at + 1])):
                found[token] = all_ids[state, int(computed[state]) + 1 + token - int(starts[at])]
        return found

    def scores(logits, ids):
        return logits.log_softmax(-1, dtype=torch.float32).gather(-1, ids.long())

    def topk(logits, count, sampled, *, logits_mode):
        assert not logits_mode
        ids = torch.cat([sampled[:, None], logits.topk(count, dim=-1).indices], dim=1)
        return prompt_logprob.LogprobsTensors(ids, scores(logits, ids), torch.ones(len(ids), dtype=torch.int64))

    monkeypatch.setattr(prompt_logprob, "get_prompt_logprobs_token_ids", targets)
    monkeypatch.setattr(prompt_logprob, "compute_topk_scores", topk)
    monkeypatch.setattr(prompt_logprob, "CHUNK_SIZE", 5)
    monkeypatch.setattr(rows, "chunk_rows", lambda *_: 3)
    assert logprob.compute_topk_scores.__kwdefaults__ is None  # it is called as `topk` above
    reader = prompt_logprob.PromptLogprobsWorker(8, torch.device("cpu"))
    rows.install(SimpleNamespace(prompt_logprobs_worker=reader))
    return reader


@pytest.mark.parametrize("step", [1, 2, 3, 4, 90])
def test_v2_is_overheard_for_those_who_ask(v2, step):
    torch.manual_seed(step)
    ids = {"a": [3, 1, 4, 1, 5, 9, 2, 6, 5, 3], "b": [2, 7, 1, 8], "c": [1, 2, 3, 4, 5]}
    asked = {
        "a": Asked.of(top=2, first=0, entropy=True),
        "b": Asked.of(top=0, first=0, entropy=True),
        "c": Asked.of(top=1, first=0, entropy=False),
    }
    hidden = {name: torch.randn(len(some), WIDE) for name, some in ids.items()}
    every_id = torch.zeros(8, 32, dtype=torch.int64)
    for at, (name, some) in enumerate(ids.items()):
        every_id[at, : len(some)] = torch.tensor(some)
        v2.add_request(name, at, asked[name])
    lengths = np.zeros(8, np.int64)
    lengths[:3] = [len(some) for some in ids.values()]
    done, found = np.zeros(8, np.int64), {}
    while (done < lengths).any():
        here = [at for at in range(3) if done[at] < lengths[at]]
        counts = np.array([min(step, lengths[at] - done[at]) for at in here])
        names = [list(ids)[at] for at in here]
        starts = np.concatenate([[0], np.cumsum(counts)])
        batch = SimpleNamespace(
            req_ids=names,
            idx_mapping_np=np.array(here),
            idx_mapping=torch.tensor(here),
            num_computed_prefill_tokens_np=done[here],
            prefill_len_np=lengths[here],
            num_tokens=int(starts[-1]),
            num_scheduled_tokens=counts,
            query_start_loc=torch.tensor(starts),
            query_start_loc_np=starts,
        )
        parts = [
            hidden[name][done[at] : done[at] + count] for at, name, count in zip(here, names, counts, strict=True)
        ]
        found |= v2.compute_prompt_logprobs(HEAD, torch.cat(parts), batch, every_id, torch.tensor(done), lengths)
        done[here] += counts
    check(found["a"], hidden["a"], ids["a"], 0, 2, entropy=True)
    check(found["b"], hidden["b"], ids["b"], 0, 0, entropy=True)
    check(found["c"], hidden["c"], ids["c"], 0, 1, entropy=False)
    for name in ids:
        v2.remove_request(name)
    assert not v2.in_progress_prompt_logprobs
