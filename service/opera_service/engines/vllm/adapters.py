"""Which LoRA adapters vLLM serves as their training meant them. Knows what vLLM can do; imports none of it."""

from __future__ import annotations

from collections.abc import Iterable

from opera_client.errors import InvalidRequest, NotSupported
from opera_service.engines.adapter import Adapter

TARGETS = (
    "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "qkv_proj", "gate_up_proj",
    "c_attn", "c_proj", "c_fc", "out_proj", "dense", "fc1", "fc2",
)  # fmt: skip
"""Layers that vLLM prepares for adapters. Without such a list it prepares the head, too, and then fails on
scored rows: its head's adapter counts one row a request."""
_MERGE = "merge it into the model (`merge_and_unload()`) and load the result"


def check_targets(targets: Iterable[str]) -> None:
    """Raise `InvalidRequest` when the head is among them."""
    if "lm_head" in targets:
        raise InvalidRequest(
            "vLLM cannot score with an adapter of lm_head; leave it out", field="vllm.lora_target_modules"
        )


def check(adapter: Adapter, *, max_rank: int, targets: frozenset[str]) -> None:
    """Raise `NotSupported` for an adapter that this vLLM would refuse, or serve wrongly."""
    if adapter.rank > max_rank:
        needed = 1 << max(3, (adapter.rank - 1).bit_length())
        raise NotSupported(
            f"the adapter has rank {adapter.rank}, vLLM was started for at most {max_rank}; "
            f"serve with --vllm.enable_lora true --vllm.max_lora_rank {needed}"
        )
    if not adapter.uniform:
        raise NotSupported(
            "the adapter has ranks or alphas of their own for some layers (rank_pattern, alpha_pattern), which "
            f"vLLM ignores; {_MERGE}"
        )
    for layer in adapter.layers:
        name = layer.module.rpartition(".")[2]
        if name not in targets:
            raise NotSupported(
                f"the adapter changes {layer.module!r}, for which vLLM was not started; add {name} to "
                f"--vllm.lora_target_modules, or {_MERGE}"
            )
