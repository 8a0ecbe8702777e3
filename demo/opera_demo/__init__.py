"""The embedded model, the little world it was trained on, and `opera-reward demo`."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

__all__ = ["model_path"]


def model_path() -> Path:
    """Return the folder of the packaged model, as `--model` and `from_pretrained` take it.

    Raises FileNotFoundError when the package was installed without it or is not unpacked on disk.
    """
    folder = Path(str(resources.files(__name__).joinpath("model")))
    if not (folder / "model.safetensors").is_file():
        raise FileNotFoundError(
            f"no embedded model in {folder}; reinstall opera-reward, or make it with"
            f" `python -m opera_demo.pretrain --out {folder}`"
        )
    return folder
