"""Models and tokenizers on disk: the base, an untrained twin, what training made. Knows no stage and no reward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from opera_demo import model_path

Model = Any
"""A transformers causal LM."""
Tokenizer = Any
"""A transformers tokenizer."""


def base(name: str) -> str:
    """Return what `from_pretrained` and `--model` take for the model of a configuration."""
    return str(model_path()) if name == "demo" else name


def load(name: str | Path) -> tuple[Model, Tokenizer]:
    """Load weights in float32, as optimizers need them, whatever precision they compute in."""
    return AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32), AutoTokenizer.from_pretrained(name)


def save(model: Model, tokenizer: Tokenizer, origin: str | Path, folder: Path) -> None:
    """Write a Hugging Face folder in the precision of `origin`, so that what is measured is what is served."""
    dtype = AutoConfig.from_pretrained(origin).dtype
    model.to(dtype or torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


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
