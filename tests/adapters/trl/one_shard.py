"""One rank of a model sharded by FSDP2, started by torchrun: gathers it and compares it with the original."""

from __future__ import annotations

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import AutoModelForCausalLM

from opera_adapters._policy_sync import whole_tensors
from opera_demo import model_path


def main() -> None:
    model = AutoModelForCausalLM.from_pretrained(model_path(), dtype=torch.float32)
    expected = whole_tensors(model)
    mesh = init_device_mesh("cpu", (2,))
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    assert any(hasattr(tensor, "full_tensor") for tensor in model.state_dict().values())
    found = whole_tensors(model)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
