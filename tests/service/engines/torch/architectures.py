"""Every causal language model class of transformers, as small as its configuration allows.

`python -m tests.service.engines.torch.architectures` prints the table of docs/models.md.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from opera_client.errors import OperaError
from opera_service.engines.torch.loading import LoadedModel
from opera_service.engines.torch.scorer import TreeScorer
from opera_service.scoring.tree import ROOT, TokenTree, TreeBuilder

VOCABULARY, LENGTH, WINDOW = 97, 64, 12
_MOST_PARAMETERS = 3_000_000
SMALL = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "n_embd": 32, "d_model": 32, "dim": 32, "embed_dim": 32,
    "intermediate_size": 48, "ffn_dim": 48, "n_inner": 48, "moe_intermediate_size": 24, "ffn_hidden_size": 48,
    "num_hidden_layers": 2, "n_layer": 2, "n_layers": 2, "num_layers": 2, "decoder_layers": 2,
    "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_heads": 4, "decoder_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "d_head": 8, "attention_head_dim": 8, "word_embed_proj_dim": 32,
    "max_position_embeddings": LENGTH, "n_positions": LENGTH, "n_ctx": LENGTH, "max_seq_len": LENGTH,
    "max_sequence_length": LENGTH,
    "seq_length": LENGTH, "sliding_window": WINDOW, "attention_window_size": WINDOW,
    "window_size": WINDOW, "attention_chunk_size": WINDOW, "index_topk": WINDOW, "local_attention": WINDOW,
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2,
    "n_shared_experts": 1, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1,
    "shared_expert_intermediate_size": 24,
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8,
    "index_head_dim": 16, "index_n_heads": 2, "state_size": 8, "mamba_d_state": 8, "mamba_n_heads": 4,
    "mamba_d_head": 16, "mamba_n_groups": 1, "lru_width": 32, "attention_hidden_size": 32, "time_step_rank": 4,
    "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "rotary_dim": 8, "num_codebooks": 1, "use_sliding_window": True, "max_window_layers": 0,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": VOCABULARY, "num_kv_shared_layers": 0, "laurel_rank": 4, "altup_num_inputs": 2,
}  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What became of one architecture."""

    model_type: str
    route: str
    """The route that `auto` takes; empty when the model was refused or could not be made small."""
    apart: float
    """Largest difference from plain forwards of single contexts, in nats."""
    reason: str = ""


def model_types() -> list[str]:
    """Return the types that transformers has a causal class for."""
    return sorted(set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) & set(CONFIG_MAPPING))


def tiny(model_type: str, dtype: torch.dtype = torch.float64, **more: object) -> torch.nn.Module:
    """Return a small random model; raises whatever the class raises when it cannot be made so."""
    kind = CONFIG_MAPPING[model_type]
    known = set(inspect.signature(kind.__init__).parameters) | set(vars(kind())) | set(kind.attribute_map)
    config = kind(**{**{name: value for name, value in SMALL.items() if name in known}, **more})
    with torch.device("meta"):
        parameters = sum(weight.numel() for weight in AutoModelForCausalLM.from_config(config).parameters())
    if parameters > _MOST_PARAMETERS:
        raise ValueError(f"{parameters} parameters")
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0, 0.3)
    return model


def long_tree(vocabulary: int) -> TokenTree:
    """Return a tree whose contexts lie on both sides of every length in `SMALL`."""
    rng = np.random.default_rng(7)
    trunk, other, target = (rng.integers(3, vocabulary, count) for count in (LENGTH - 8, 20, 5))
    builder = TreeBuilder()
    for cut in (3, WINDOW - 2, WINDOW + 3, 2 * WINDOW + 1, LENGTH - 8):
        builder.score(builder.extend(ROOT, trunk[:cut]), target)
    builder.score(builder.extend(builder.extend(ROOT, trunk[: WINDOW + 3]), other), target)
    return builder.build()


def oracle(model: torch.nn.Module, tree: TokenTree) -> np.ndarray:
    """Return the log-probabilities by one plain forward a context, alone and unpadded."""
    found = []
    for query in range(tree.num_queries):
        path, context = tree.query_context(query)
        with torch.inference_mode():
            logits = model(input_ids=torch.as_tensor(path[None, :-1]).long(), use_cache=False).logits[0].double()
        rows = logits[context - 1 :].log_softmax(-1)
        found.append(rows[torch.arange(len(rows)), torch.as_tensor(path[context:]).long()].numpy())
    return np.concatenate(found)


def judge(model_type: str, **more: object) -> Verdict:
    """Score a small model as the service would, and compare."""
    tree = long_tree(VOCABULARY)
    # Some kernels know no float64, some attention wants as many key heads as heads.
    for dtype, heads in product((torch.float64, torch.float32), ({}, {"num_key_value_heads": 4})):
        try:
            model = tiny(model_type, dtype, **heads, **more)
            expected = oracle(model, tree)
            break
        except Exception as error:  # noqa: BLE001  of transformers; such a class is left out
            reason = _first(error)
    else:
        return Verdict(model_type, "", np.nan, f"not made small: {reason}")
    try:
        scorer = TreeScorer(LoadedModel.of(model, name=model_type))
        found = scorer.score([tree])[0].logprobs
    except OperaError as error:
        return Verdict(model_type, "", np.nan, f"refused: {error.message}")
    return Verdict(model_type, scorer.route.name, float(np.abs(found - expected).max()))


def _first(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for one in sys.argv[1:] or model_types():
        verdict = judge(one)
        print(f"| `{one}` | {verdict.route or '-'} | {verdict.apart:.1e} | {verdict.reason} |", flush=True)
