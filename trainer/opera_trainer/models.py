"""Models and tokenizers on disk: the base, an untrained twin, what training made. Knows no stage and no reward."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from opera_demo import model_path
from opera_service.model_store.folders import model_folder

Model = Any
"""A transformers causal LM."""
LEAST_KEPT = 0.9
"""Below this cosine the changes of training are written in float32."""
Tokenizer = Any
"""A transformers tokenizer."""


def base(name: str) -> str:
    """Return what `from_pretrained` and `--model` take for the model of a configuration.

    Raises:
        NotSupported: a model that can be fetched was not; the message has the command.
    """
    return str(model_path()) if name == "demo" else model_folder(name)


def load(name: str | Path) -> tuple[Model, Tokenizer]:
    """Load weights in float32, as optimizers need them, whatever precision they compute in."""
    return AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32), tokenizer(name)


def tokenizer(name: str | Path) -> Tokenizer:
    return AutoTokenizer.from_pretrained(name)


def save(model: Model, tokenizer: Tokenizer, origin: str | Path, folder: Path) -> None:
    """Write a Hugging Face folder; what is written is what is measured and served.

    The precision is that of `origin`, or float32 where that would round away what training changed: a bfloat16
    weight of 0.05 does not see a change below 0.0001, and at a learning rate of 1e-6 that is most of them.
    """
    dtype = AutoConfig.from_pretrained(origin).dtype or torch.float32
    if dtype != torch.float32 and kept(model, origin, dtype) < LEAST_KEPT:
        dtype = torch.float32
    model.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    usual = stat.S_IMODE((folder / "config.json").stat().st_mode)
    for weights in folder.glob("*.safetensors"):
        weights.chmod(usual)  # they come out readable by their owner only, and a service may run as somebody else


def kept(model: Model, origin: str | Path, dtype: torch.dtype) -> float:
    """Return how much of what training changed is left in `dtype`: the cosine of both changes, 1 for no change.

    Args:
        model: float32 weights after training.
        origin: the weights before, a folder or id of the same architecture.
        dtype: to be written.
    """
    before = AutoModelForCausalLM.from_pretrained(origin, dtype=torch.float32).state_dict()
    products = real = rounded = 0.0
    for name, weight in model.state_dict().items():
        start = before[name].to(weight.device)
        change, left = (weight - start).double(), (weight.to(dtype).to(weight.dtype) - start).double()
        products += float((change * left).sum())
        real += float((change**2).sum())
        rounded += float((left**2).sum())
    if not real:
        return 1.0
    return products / (real * rounded) ** 0.5 if rounded else 0.0


def untrained(name: str | Path, seed: int, folder: Path) -> Path:
    """Write a randomly initialised twin of a model, with its tokenizer, and return the folder."""
    torch.manual_seed(seed)
    twin = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(name))  # type: ignore[no-untyped-call]
    save(twin, AutoTokenizer.from_pretrained(name), name, folder)
    return folder


def chat(tokenizer: Tokenizer, messages: list[dict[str, Any]]) -> list[int]:
    """Return the token ids of a prompt, ready for the assistant's turn."""
    found = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=True)
    return [int(token) for token in found["input_ids"]]
