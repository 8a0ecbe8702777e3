"""Carries SmolLM2-135M-Instruct (Apache-2.0) to a machine without the internet, in small parts.

    python -m gpu.smollm2 pack FILE.gguf PARTS      # here: splits the model, with its tokenizer made ready
    python -m gpu.smollm2 unpack PARTS FOLDER       # there: a folder as save_pretrained writes it

What a GGUF file says of its tokenizer takes half a minute to read, so it is read here; the weights stay quantised
on the way, a third of their size.
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from transformers import AutoModelForCausalLM, AutoTokenizer

PART_BYTES = 25_000_000
WEIGHTS = "weights.gguf"
ENDS = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
"""As the model's own tokenizer has them; the GGUF file's are read wrong."""


def main(arguments: list[str]) -> int:
    if len(arguments) != 3 or arguments[0] not in ("pack", "unpack"):
        print(__doc__, file=sys.stderr)
        return 2
    source, target = Path(arguments[1]), Path(arguments[2])
    target.mkdir(parents=True, exist_ok=True)
    (pack if arguments[0] == "pack" else unpack)(source, target)
    return 0


def pack(source: Path, parts: Path) -> None:
    """Write PARTS/part-00, part-01, …: a zip of tokenizer and weights, cut."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
        for role, token in ENDS.items():
            setattr(tokenizer, role, token)
        tokenizer.save_pretrained(folder)
        without_tokenizer(source, folder / WEIGHTS)
        archive = folder / "archive"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
            for file in sorted(folder.iterdir()):
                if file != archive:
                    zipped.write(file, file.name)
        whole = archive.read_bytes()
    for number, start in enumerate(range(0, len(whole), PART_BYTES)):
        (parts / f"part-{number:02}").write_bytes(whole[start : start + PART_BYTES])


def without_tokenizer(source: Path, target: Path) -> None:
    """Copy a GGUF file less what it says of the tokenizer."""
    reader = GGUFReader(source)
    writer = GGUFWriter(target, "llama")
    for name, field in reader.fields.items():
        kept = name.startswith(("llama.", "general.")) and name != "general.architecture"
        if kept and field.types[0] != GGUFValueType.ARRAY:
            writer.add_key_value(name, field.contents(), field.types[0])
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def unpack(parts: Path, folder: Path) -> None:
    """Write the folder in bfloat16."""
    found = sorted(parts.glob("part-*"))
    if not found:
        raise SystemExit(f"{parts} holds no part-00; run benchmarks/gpu/prepare.sh and bring what it makes")
    with tempfile.TemporaryDirectory() as name:
        archive = Path(name) / "archive"
        archive.write_bytes(b"".join(part.read_bytes() for part in found))
        try:
            with zipfile.ZipFile(archive) as zipped:
                zipped.extractall(name)
        except zipfile.BadZipFile:
            raise SystemExit(f"{parts} lacks a part: {len(found)} are there") from None
        tokenizer = AutoTokenizer.from_pretrained(name)
        quantised = AutoModelForCausalLM.from_pretrained(name, gguf_file=WEIGHTS, dtype=torch.bfloat16)
    config = quantised.config
    del config.quantization_config  # or it would not be saved
    for role in ENDS:
        setattr(config, f"{role}_id", getattr(tokenizer, f"{role}_id"))
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(quantised.state_dict())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
