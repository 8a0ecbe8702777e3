"""The fetched folder holds exactly the numbers of the GGUF file, and transformers and our service load it."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from opera_service.model_store.packages import PACKAGES, _file
from opera_service.trajectories.hf_tokenizer import HFTokenizer

pytestmark = pytest.mark.real

PAIRS = {
    "token_embd.weight": "model.embed_tokens.weight",
    "blk.0.ffn_up.weight": "model.layers.0.mlp.up_proj.weight",
    "blk.29.attn_v.weight": "model.layers.29.self_attn.v_proj.weight",
    "output_norm.weight": "model.norm.weight",
}


def test_weights_are_those_of_the_gguf_file(smollm2: Path):
    from gguf import GGUFReader, dequantize

    made = load_file(smollm2 / "model.safetensors")
    with _file(PACKAGES["smollm2"]) as file:
        stored = {tensor.name: tensor for tensor in GGUFReader(file).tensors}
        for theirs, ours in PAIRS.items():
            plain = dequantize(stored[theirs].data, stored[theirs].tensor_type)
            np.testing.assert_array_equal(made[ours], plain.reshape(made[ours].shape))
    # What is no plain copy: query and key are stored in another order of their rows.
    assert len(made) == len(stored)


def test_nothing_of_the_quantisation_is_left(smollm2: Path):
    config = json.loads((smollm2 / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["dtype"] == "float32"


def test_its_tokenizer_is_exact_and_has_a_template(smollm2: Path):
    tokenizer = HFTokenizer.load(str(smollm2))
    text = "Wait, 12 + 7 = 19.\n\n等等 é😀"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    rendered = tokenizer.decode(tokenizer.chat([{"role": "user", "content": "Hello"}]))
    assert rendered.endswith("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n")
