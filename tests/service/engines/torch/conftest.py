"""Tiny random models made from configurations, trees to score, and an oracle that shares no engine code."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers as tf

from opera_service.engines.torch.loading import LoadedModel
from opera_service.scoring.tree import ROOT, TokenTree, TreeBuilder

torch.set_num_threads(1)  # matrices this small only make threads wait for each other

VOCAB = 89
SMALL = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
WINDOW = 7
MIXED = ["sliding_attention", "full_attention", "sliding_attention"]


def _qwen3(**changes):
    return tf.Qwen3ForCausalLM(tf.Qwen3Config(**{**SMALL, "head_dim": 8, **changes}))


def _qwen3_next():
    return tf.Qwen3NextForCausalLM(
        tf.Qwen3NextConfig(
            **{**SMALL, "head_dim": 8},
            linear_num_value_heads=4,
            linear_num_key_heads=2,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            moe_intermediate_size=16,
            shared_expert_intermediate_size=16,
            num_experts=4,
            num_experts_per_tok=2,
            layer_types=["linear_attention", "full_attention", "linear_attention"],
            experts_implementation="eager",  # the fused one has no float64
        )
    )


MODELS: dict[str, Callable[[], tf.PreTrainedModel]] = {
    "qwen3": lambda: _qwen3(tie_word_embeddings=False),
    "qwen3_tied": lambda: _qwen3(tie_word_embeddings=True, num_key_value_heads=1),
    "qwen3_no_gqa": lambda: _qwen3(num_key_value_heads=4),
    "qwen3_sliding": lambda: _qwen3(use_sliding_window=True, sliding_window=WINDOW, layer_types=MIXED),
    "llama": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**SMALL)),
    "mistral": lambda: tf.MistralForCausalLM(tf.MistralConfig(**SMALL, sliding_window=WINDOW, head_dim=8)),
    "granite": lambda: tf.GraniteForCausalLM(tf.GraniteConfig(**SMALL, logits_scaling=3.0)),
    "gemma2": lambda: tf.Gemma2ForCausalLM(
        tf.Gemma2Config(**SMALL, head_dim=8, sliding_window=WINDOW, final_logit_softcapping=2.0)
    ),
    "gpt2": lambda: tf.GPT2LMHeadModel(
        tf.GPT2Config(
            vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=256, bos_token_id=1, eos_token_id=2
        )
    ),
    "bloom": lambda: tf.BloomForCausalLM(tf.BloomConfig(vocab_size=VOCAB, hidden_size=32, n_layer=2, n_head=4)),
    "mamba": lambda: tf.MambaForCausalLM(
        tf.MambaConfig(vocab_size=VOCAB, hidden_size=32, state_size=8, num_hidden_layers=2, eos_token_id=2)
    ),
    "qwen3_next": _qwen3_next,
}


def make_model(name: str, dtype: torch.dtype = torch.float64) -> tf.PreTrainedModel:
    """Return the same random model each time, loud enough that a wrong token or position shows."""
    torch.manual_seed(7)
    model = MODELS[name]()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.mul_(5)
    return model.to(dtype).eval()


def load(name: str, dtype: torch.dtype = torch.float64) -> LoadedModel:
    return LoadedModel.of(make_model(name, dtype), name=name)


def oracle(model: tf.PreTrainedModel, tree: TokenTree) -> torch.Tensor:
    """Log-probabilities [N, V] of every scored row: one plain forward a query, nothing shared or padded."""
    rows = []
    with torch.no_grad():
        for query in range(tree.num_queries):
            ids, context = tree.query_context(query)
            logits = model(input_ids=torch.as_tensor(ids[None]).long(), use_cache=False).logits[0]
            rows.append(torch.log_softmax(logits.double(), dim=-1)[context - 1 : len(ids) - 1])
    return torch.cat(rows)


def oracle_logprobs(model: tf.PreTrainedModel, tree: TokenTree) -> np.ndarray:
    every = oracle(model, tree)
    return every.gather(1, torch.as_tensor(tree.targets).long()[:, None])[:, 0].numpy()


def random_ids(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, VOCAB, count)


def group_tree(*, prompt=9, responses=(31, 22), cuts=5, reference=6, seed=0, **wants) -> TokenTree:
    """A group as a reward plans it: one reference after every boundary of every response."""
    rng = np.random.default_rng(seed)
    builder = TreeBuilder()
    after_prompt = builder.extend(ROOT, rng.integers(0, VOCAB, prompt))
    target = rng.integers(0, VOCAB, reference)
    builder.score(after_prompt, target)
    for length in responses:
        response = rng.integers(0, VOCAB, length)
        for cut in sorted({*rng.integers(1, length + 1, cuts).tolist(), length}):
            builder.score(builder.extend(after_prompt, response[:cut]), target)
    return builder.build(**wants)


def edge_tree(**wants) -> TokenTree:
    """One-token prompt, boundary 1, one-token and ragged targets, a repeated query, a branch on a branch."""
    trunk, target = random_ids(1, 12), random_ids(2, 5)
    builder = TreeBuilder()
    queries = [(1, 1), (1, 5), (2, 1), (5, 3), (5, 3), (5, 5), (12, 4)]
    for cut, length in queries:
        builder.score(builder.extend(ROOT, trunk[:cut]), target[:length])
    side = builder.extend(builder.extend(ROOT, trunk[:5]), random_ids(3, 4))
    builder.score(side, target)
    builder.score(builder.extend(side, random_ids(4, 3)), random_ids(5, 2))
    builder.score(builder.extend(side, [7]), [8])
    builder.score(builder.extend(ROOT, random_ids(6, 3)), target)  # another root
    return builder.build(**wants)


@pytest.fixture(scope="session")
def lab() -> SimpleNamespace:
    """The helpers above, for test modules."""
    return SimpleNamespace(
        make_model=make_model,
        load=load,
        oracle=oracle,
        oracle_logprobs=oracle_logprobs,
        group_tree=group_tree,
        edge_tree=edge_tree,
        random_ids=random_ids,
        vocab=VOCAB,
    )


@pytest.fixture(scope="session")
def trees() -> list[TokenTree]:
    one_each = group_tree(prompt=1, responses=(1,), cuts=1, reference=1, seed=3)
    return [edge_tree(), group_tree(), one_each, group_tree(responses=(17, 3, 40), reference=1, seed=4)]
