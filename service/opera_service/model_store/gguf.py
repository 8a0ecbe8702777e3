"""A GGUF file becomes a folder of transformers: weights dequantised to float32, tokenizer, chat template.

Done by transformers, which needs the package `gguf`; what it loads still carries the quantised entry in its
configuration, so the model is built again from a configuration without it. It also forgets whether texts begin
with the start token, without which some models write nonsense; the file says so.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from opera_client.errors import NotSupported
from opera_service.failures import reason_of
from opera_service.model_store.cache import cache_home, is_complete, written_whole

_MADE = 2
"""Counts up when folders come out otherwise than before, so that none of an older version is taken."""
_PART = re.compile(r"-\d{5}-of-\d{5}$")
_WAY = "give a folder written by save_pretrained (config.json, tokenizer.json, *.safetensors)"


def converted(file: Path) -> Path:
    """Return the folder made from `file`, which is made when there is none yet. Raises as `convert` does."""
    folder = cache_home() / "gguf" / f"{file.stem}-{sha256(file)[:12]}-{_MADE}"
    if not is_complete(folder):
        with written_whole(folder) as draft:
            convert(file, draft)
    return folder


def convert(file: Path, folder: Path) -> None:
    """Write `file` as a transformers model to `folder`; takes about three times the float32 size in memory.

    Raises `NotSupported`: the package `gguf` is missing, the file is one of several parts, or transformers
    does not know its architecture or lacks some of its weights.
    """
    if _PART.search(file.stem):
        raise NotSupported(
            f"{file.name} is one part of several; join them first (llama-gguf-split --merge), or {_WAY}"
        )
    try:
        import gguf  # noqa: F401
    except ModuleNotFoundError:
        raise NotSupported(f"{file.name} needs the package gguf: pip install 'opera-reward[gguf]'") from None
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
        read: Any = AutoModelForCausalLM.from_pretrained(
            str(file.parent), gguf_file=file.name, dtype="float32", output_loading_info=True
        )
        model, report = read
        _start_texts_as_told(tokenizer, file)
    except Exception as error:  # the readers of transformers and of gguf raise errors of many types
        reason = reason_of(error)
        raise NotSupported(f"{file.name} cannot be converted ({reason}); {_WAY}") from error
    if missing := sorted(report["missing_keys"]):
        raise NotSupported(f"{file.name} lacks {len(missing)} weights, such as {missing[0]!r}; {_WAY}")
    _unquantised(model).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for made in folder.iterdir():
        made.chmod(0o644)  # weights come out readable by their owner only, and a service may run as somebody else


def sha256(file: Path) -> str:
    """Return the hash of a file's bytes, in hex."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _start_texts_as_told(tokenizer: Any, file: Path) -> None:
    """Make `tokenizer` begin texts with its start token, or not, where the file says which."""
    from gguf import GGUFReader

    told = GGUFReader(str(file)).fields.get("tokenizer.ggml.add_bos_token")
    if told is None or tokenizer.bos_token_id is None:
        return
    if bool(told.contents()) != (tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id]):
        tokenizer.add_bos_token = bool(told.contents())


def _unquantised(model: Any) -> Any:
    """Return the same weights under a configuration that names no quantisation."""
    import torch

    values = model.config.to_dict()
    values.pop("quantization_config", None)
    with torch.device("meta"):
        plain = type(model)(type(model.config).from_dict(values))
    plain.load_state_dict(model.state_dict(), assign=True)
    plain.tie_weights()
    plain.generation_config = model.generation_config
    return plain
