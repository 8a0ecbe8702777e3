"""A GGUF file's own word on how texts begin; the file is made here, of the smallest model there can be."""

from pathlib import Path

import gguf
import numpy as np
import pytest
from transformers import AutoTokenizer

from opera_service.model_store.gguf import converted
from opera_service.trajectories.hf_tokenizer import HFTokenizer

WIDTH, INNER, HEADS = 32, 64, 4
TOKENS = [
    ("<unk>", gguf.TokenType.UNKNOWN), ("<s>", gguf.TokenType.CONTROL), ("</s>", gguf.TokenType.CONTROL),
    *((f"<0x{byte:02X}>", gguf.TokenType.BYTE) for byte in range(256)),
    *((piece, gguf.TokenType.NORMAL) for piece in ("\u2581", "a", "b", "ab", "\u2581a")),
]  # fmt: skip


def write(path: Path, begins: bool | None) -> Path:
    """Write a Llama of one layer whose file says that texts begin with `<s>`, or that they do not, or nothing."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_block_count(1)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("llama")
    writer.add_token_list([piece for piece, _ in TOKENS])
    writer.add_token_scores([-float(at) for at in range(len(TOKENS))])
    writer.add_token_types([kind for _, kind in TOKENS])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    if begins is not None:
        writer.add_add_bos_token(begins)
    rng = np.random.default_rng(0)
    shapes = {
        "token_embd": (len(TOKENS), WIDTH), "output": (len(TOKENS), WIDTH), "output_norm": (WIDTH,),
        "blk.0.attn_norm": (WIDTH,), "blk.0.ffn_norm": (WIDTH,),
        **{f"blk.0.attn_{part}": (WIDTH, WIDTH) for part in ("q", "k", "v", "output")},
        "blk.0.ffn_gate": (INNER, WIDTH), "blk.0.ffn_up": (INNER, WIDTH), "blk.0.ffn_down": (WIDTH, INNER),
    }  # fmt: skip
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", rng.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(("begins", "start"), [(True, (1,)), (False, ()), (None, None)])
def test_texts_begin_as_the_file_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begins: bool | None, start: tuple[int, ...] | None
):
    monkeypatch.setenv("OPERA_HOME", str(tmp_path / "home"))
    file = write(tmp_path / "tiny.gguf", begins)
    if start is None:  # as transformers has it
        start = HFTokenizer(AutoTokenizer.from_pretrained(str(tmp_path), gguf_file=file.name)).start_ids
    tokenizer = HFTokenizer.load(str(converted(file)))
    assert tokenizer.start_ids == start
    assert tokenizer.bos_id == 1
    assert tokenizer.decode(tokenizer.encode("ab a")) == "ab a"
