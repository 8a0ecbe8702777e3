"""The block mask against a dense mask made token by token, and against a compiled kernel."""

import shutil

import numpy as np
import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from opera_service.engines.torch.flex import BLOCK, block_kinds, block_mask, padded
from opera_service.engines.torch.packed_batch import join, plan_steps
from opera_service.scoring.tree import TokenTree

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def batch(lab) -> TokenTree:
    # Runs longer than a block, branches shorter than one, several roots.
    long = lab.group_tree(prompt=60, responses=(300, 170), cuts=6, reference=40)
    return join([long, lab.edge_tree(), lab.group_tree(seed=5)])


def dense(tree: TokenTree, step, window: int | None) -> np.ndarray:
    """bool [queries, slots], unpadded: the definition of what a query may see."""
    slots = np.concatenate([step.kept, np.arange(step.start, step.stop)])
    place = {int(token): slot for slot, token in enumerate(slots)}
    seen = np.zeros((step.num_tokens, step.num_keys), dtype=bool)
    for query in range(step.start, step.stop):
        path = [token for start, stop in tree.intervals(query) for token in range(start, stop)]
        for token in path[-(window or len(path)) :]:
            seen[query - step.start, place[token]] = True
    return seen


@pytest.mark.parametrize("window", [None, 9, 150])
@pytest.mark.parametrize("max_tokens", [4096, 250])  # 250 kept keys: a block short of full by its corner
def test_the_mask_shows_a_query_its_path_within_the_window(batch, window, max_tokens):
    for step in plan_steps(batch, max_tokens):
        mask = block_mask(batch, step, window, CPU)
        queries, keys = mask.seq_lengths
        whole = np.zeros((queries, keys), dtype=bool)
        whole[: step.num_tokens, : step.num_keys] = dense(batch, step, window)
        rows, columns = torch.arange(queries)[:, None], torch.arange(keys)[None]
        assert (mask.mask_mod(None, None, rows, columns).numpy() == whole).all()
        blocks = whole.reshape(queries // BLOCK, BLOCK, keys // BLOCK, BLOCK)
        some, full = block_kinds(batch, step, window)
        assert not (blocks.any(axis=(1, 3)) & ~some).any()
        assert not (full & ~blocks.all(axis=(1, 3))).any()
        if window is None:
            assert (some == blocks.any(axis=(1, 3))).all()
            assert (full == blocks.all(axis=(1, 3))).all()


def test_the_block_mask_is_the_one_that_create_block_mask_finds(batch):
    (step,) = plan_steps(batch, 4096)
    mine = block_mask(batch, step, None, CPU)
    theirs = create_block_mask(mine.mask_mod, 1, 1, *mine.seq_lengths, device="cpu")
    for name in ("kv_num_blocks", "full_kv_num_blocks"):
        assert getattr(mine, name).tolist() == getattr(theirs, name).tolist()
    for indices, counts in (("kv_indices", "kv_num_blocks"), ("full_kv_indices", "full_kv_num_blocks")):
        for row, count in enumerate(getattr(mine, counts)[0, 0].tolist()):
            first, second = (getattr(mask, indices)[0, 0, row, :count].tolist() for mask in (mine, theirs))
            assert first == second


@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="compiling needs a C++ compiler")
@pytest.mark.parametrize("read", [None, np.array([3, 61, 300, 301])])  # most blocks idle
@pytest.mark.slow  # compiles
def test_a_compiled_kernel_agrees_with_a_dense_mask(batch, read):
    (step,) = plan_steps(batch, 4096)
    mask = block_mask(batch, step, None, CPU, read)
    torch.manual_seed(0)
    lengths = (mask.seq_lengths[0], mask.seq_lengths[1], mask.seq_lengths[1])
    query, key, value = (torch.randn(1, heads, size, 16) for heads, size in zip((4, 2, 2), lengths, strict=True))
    with torch.inference_mode():
        kernel = torch.compile(flex_attention, dynamic=False)
        mine = kernel(query, key, value, block_mask=mask, enable_gqa=True)[:, :, : step.num_tokens]
        seen = torch.as_tensor(dense(batch, step, None))
        theirs = scaled_dot_product_attention(
            query[:, :, : step.num_tokens],
            key[:, :, : step.num_keys],
            value[:, :, : step.num_keys],
            attn_mask=seen,
            enable_gqa=True,
        )
    wanted = slice(None) if read is None else torch.as_tensor(read)
    assert torch.allclose(mine[:, :, wanted], theirs[:, :, wanted], atol=2e-6)
    assert mine.isfinite().all()


def test_blocks_of_which_no_query_is_read_see_nothing(batch):
    (step,) = plan_steps(batch, 4096)
    whole, narrow = (block_mask(batch, step, None, CPU, read) for read in (None, np.array([3, 61, 300, 301])))
    read_blocks = [0, 300 // BLOCK]
    for name in ("kv_num_blocks", "full_kv_num_blocks"):
        before, after = (getattr(mask, name)[0, 0] for mask in (whole, narrow))
        assert after[read_blocks].tolist() == before[read_blocks].tolist()
        assert sum(after.tolist()) == sum(after[read_blocks].tolist())


def test_padded_lengths_are_few_and_close():
    lengths = {padded(length) for length in range(1, 65537)}
    assert len(lengths) <= 45
    for length in (1, 128, 129, 1000, 1025, 5000, 65536):
        assert length <= padded(length) <= max(BLOCK, 1.26 * length + BLOCK)
        assert padded(length) % BLOCK == 0
