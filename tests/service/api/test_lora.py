"""LoRA adapters by name over HTTP, on a real model: numbers change, come back, and every refusal is typed."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen3Config, Qwen3ForCausalLM

from opera_service.engines.torch.engine import TorchEngine
from opera_service.engines.torch.loading import LoadedModel
from opera_service.engines.torch.scorer import TreeScorer
from opera_service.trajectories.byte_tokenizer import ByteTokenizer

from ..app import on, opened
from .conftest import group


def model() -> Qwen3ForCausalLM:
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=ByteTokenizer.vocab_size, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=512,
        initializer_range=0.2,
    )  # fmt: skip
    return Qwen3ForCausalLM(config).eval()


def save_adapter(folder: Path, seed: int) -> Path:
    config, whole = LoraConfig(r=2, lora_alpha=16, target_modules="all-linear", init_lora_weights=False), model()
    torch.manual_seed(seed)
    get_peft_model(whole, config).save_pretrained(folder)
    return folder


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    engine = TorchEngine(TreeScorer(LoadedModel.of(model(), name="tiny")))
    async with opened(on(engine), policy_root=(tmp_path,)) as running:
        yield running


async def scores(client: httpx.AsyncClient) -> tuple[str, object]:
    answer = (await client.post("/reward", json={"groups": [group()], "detail": "tokens"})).json()
    return answer["model"]["weight_version"], answer["groups"]


async def load(client: httpx.AsyncClient, name: str, path: Path) -> httpx.Response:
    return await client.post("/v1/load_lora_adapter", json={"lora_name": name, "lora_path": str(path)})


def refusal(response: httpx.Response) -> tuple[int, str, str | None]:
    error = response.json()["error"]
    return response.status_code, error["code"], error["field"]


async def test_an_adapter_comes_and_goes_by_name(client, tmp_path):
    before = await scores(client)
    loaded = (await load(client, "style-a", save_adapter(tmp_path / "a", 1))).json()
    assert (loaded["weight_version"], loaded["previous_version"], loaded["changed"]) == ("style-a", "0", True)
    assert loaded["canary"]["mean_logprob"] != loaded["canary_before"]
    version, numbers = await scores(client)
    assert version == "style-a"
    assert numbers != before[1]
    again = (await load(client, "style-a", tmp_path / "a")).json()
    assert (again["changed"], again["revision"]) == (False, loaded["revision"])
    gone = await client.post("/v1/unload_lora_adapter", json={"lora_name": "style-a"})
    assert (gone.json()["weight_version"], gone.json()["previous_version"]) == ("0", "style-a")
    assert gone.json()["changed"] is True
    assert await scores(client) == before


async def test_a_name_means_one_adapter(client, tmp_path):
    await load(client, "style", save_adapter(tmp_path / "a", 1))
    other = await load(client, "style", save_adapter(tmp_path / "b", 2))
    assert refusal(other) == (409, "weight_version_taken", "weight_version")
    assert (await scores(client))[0] == "style"


async def test_only_the_adapter_that_serves_can_go(client, tmp_path):
    ask = {"lora_name": "0"}
    assert refusal(await client.post("/v1/unload_lora_adapter", json=ask)) == (
        422, "invalid_request", "lora_name",
    )  # fmt: skip
    await load(client, "style", save_adapter(tmp_path / "a", 1))
    response = await client.post("/v1/unload_lora_adapter", json={"lora_name": "other"})
    assert refusal(response) == (409, "weight_version_mismatch", "lora_name")
    assert (await scores(client))[0] == "style"


async def test_an_adapter_lies_below_a_policy_root(client, tmp_path, tmp_path_factory):
    outside = save_adapter(tmp_path_factory.mktemp("outside") / "a", 1)
    assert refusal(await load(client, "style", outside)) == (403, "forbidden", "path")
    inside = save_adapter(tmp_path / "b", 1)
    (inside / "adapter_config.json").unlink()
    (inside / "adapter_config.json").symlink_to(outside / "adapter_config.json")
    assert refusal(await load(client, "style", inside)) == (403, "forbidden", "path")
