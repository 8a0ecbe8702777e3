"""What CUDA's kernels ask of a mask; that the route is right is tested with the other routes."""

import pytest
import torch

from opera_service.engines.torch.tree_sdpa import aligned


@pytest.mark.parametrize(("first", "keys"), [(0, 1), (1, 16), (3, 17), (7, 40)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_begin_where_a_kernel_may_read_sixteen_elements_at_once(first, keys, dtype):
    whole = torch.arange(5 * 64, dtype=torch.float32).reshape(5, 64).to(dtype)
    view = whole[:4, first : first + keys]

    found = aligned(view)

    assert torch.equal(found, view)
    assert found.stride(1) == 1
    assert all(row.data_ptr() % (16 * row.element_size()) == 0 for row in found)
