"""Loads a Hugging Face causal language model for scoring: evaluation mode, no gradients, one device.

Says what was loaded (revision, dtype, limits) and refuses, with a remedy, what cannot be served faithfully.
Knows no trees and no routes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging

from opera_client.errors import EngineFailed, NotSupported
from opera_service.failures import reason_of
from opera_service.model_store.weight_files import PATTERNS, revision_of, weight_files

DType = Literal["auto", "float32", "float64", "bfloat16", "float16"]
_LENGTHS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")
_UNLIMITED = 2**20
"""Context length of architectures whose config names none (state-space models)."""


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to score, and what there is to know about it."""

    model: PreTrainedModel
    name: str
    revision: str
    """`sha256:…` of the weight files of a folder, or the commit hash of a hub snapshot."""
    dtype: str
    device: torch.device
    max_context: int
    vocab_size: int

    @classmethod
    def of(cls, model: PreTrainedModel, *, name: str, revision: str = "unknown") -> LoadedModel:
        """Describe a model that is already in memory; it is put into evaluation mode."""
        model.train(False).requires_grad_(False)
        config = model.config.get_text_config()
        lengths = [getattr(config, key, None) for key in _LENGTHS]
        return cls(
            model=model,
            name=name,
            revision=revision,
            dtype=str(model.dtype).removeprefix("torch."),
            device=model.device,
            max_context=next((n for n in lengths if isinstance(n, int) and n > 0), _UNLIMITED),
            vocab_size=int(config.vocab_size),
        )


def load_model(
    source: str | Path,
    *,
    dtype: str = "auto",
    device: str = "auto",
    name: str | None = None,
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Load the causal LM at a folder or under a hub id; blocks for as long as reading the weights takes.

    `dtype="auto"` keeps the checkpoint's own dtype on a GPU and widens half precision to float32 on a CPU,
    where it is both faster and closer. `device="auto"` takes the first GPU if there is one. Python code that comes
    with the model runs only with `trust_remote_code`.

    Raises `NotSupported` when the folder, its files, the dtype or the device are not usable, `EngineFailed`
    when the files are broken or lack weights.
    """
    place = _device(device)
    if dtype not in get_args(DType):
        raise NotSupported(f"dtype {dtype!r} is unknown; use one of {', '.join(get_args(DType))}")
    folder = Path(source).expanduser()
    is_folder = _check_folder(folder, str(source))
    try:
        config = AutoConfig.from_pretrained(
            folder if is_folder else str(source), trust_remote_code=trust_remote_code
        )
        wanted: Any = "auto" if dtype == "auto" else getattr(torch, dtype)
        with _quietly():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder if is_folder else str(source),
                config=config,
                dtype=wanted,
                output_loading_info=True,
                trust_remote_code=trust_remote_code,
            )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        if not trust_remote_code and "trust_remote_code" in str(error):
            raise NotSupported(
                f"model {str(source)!r} brings Python code of its own; read it, then give --trust-remote-code"
            ) from error
        way = "" if is_folder else "; give a folder, a .gguf file, or an id that the hub or its cache has"
        raise EngineFailed(
            f"model {str(source)!r} could not be loaded: {reason_of(error).rstrip('.')}{way}"
        ) from error
    except Exception as error:  # broken safetensors headers raise a type of their own
        raise EngineFailed(
            f"the weights of {str(source)!r} could not be read ({reason_of(error)}); copy or download them again"
        ) from error
    model: Any = loaded[0]
    missing = sorted(loaded[1]["missing_keys"])
    if missing:
        raise EngineFailed(
            f"the checkpoint {str(source)!r} lacks {len(missing)} weights of its architecture, such as"
            f" {missing[0]!r}; they would be random. Give a complete causal language model"
        )
    if dtype == "auto" and place.type == "cpu" and model.dtype in (torch.bfloat16, torch.float16):
        model = model.float()
    revision = revision_of(folder) if is_folder else str(getattr(config, "_commit_hash", None) or "unknown")
    return LoadedModel.of(model.to(place), name=name or _short_name(folder, source, is_folder), revision=revision)


@contextmanager
def _quietly() -> Iterator[None]:
    """Show no progress bars of transformers; the caller says when the model is ready."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _device(wanted: str) -> torch.device:
    if wanted == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise NotSupported(f"device {wanted!r} is unknown; use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise NotSupported(
            f"device {wanted!r} is not there: torch {torch.__version__} sees {torch.cuda.device_count()} CUDA"
            " devices; use --device cpu or install a CUDA build of torch"
        )
    return device


def _check_folder(folder: Path, source: str) -> bool:
    """Return whether `source` is a folder with a model; a hub id is none. Raises `NotSupported`."""
    if not folder.exists():
        if source.startswith(("/", ".", "~")) or source.count("/") > 1:
            raise NotSupported(f"model folder {source!r} does not exist; give a folder or a Hugging Face id")
        return False
    if not folder.is_dir():
        raise NotSupported(
            f"model {source!r} is a file; give the folder that holds config.json and the weights, or a .gguf file"
        )
    if not (folder / "config.json").is_file():
        raise NotSupported(f"model folder {source!r} has no config.json; give a folder written by save_pretrained")
    if not weight_files(folder):
        raise NotSupported(f"model folder {source!r} has no weights; it needs {' or '.join(PATTERNS)}")
    return True


def _short_name(folder: Path, source: str | Path, is_folder: bool) -> str:
    return folder.resolve().name if is_folder else str(source)
