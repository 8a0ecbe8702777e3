"""The embedded model's weights replaced over HTTP: every number a fresh engine's, whatever is going on."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import torch
from safetensors.torch import load_file, save
from transformers import AutoModelForCausalLM

from opera_service.server.app import create_app
from opera_service.server.settings import Settings

MODEL = Path(Settings(engine="torch").model_path)
BODY = {
    "detail": "tokens",
    "groups": [
        {
            "group_id": f"q{number}",
            "prompt": f"What is {number} + 25?\n",
            "reference": str(number + 25),
            "trajectories": [
                {"response": "<think>\nLet me add.\n\nWait, carry the one.\n\n</think>\n\n42"},
                {"response": "<think>\nI would say 7.\n\n</think>\n\n7"},
            ],
        }
        for number in range(3)
    ],
}


def tensors(seed: int) -> dict[str, torch.Tensor]:
    """The embedded model's weights, moved a little."""
    torch.manual_seed(seed)
    return {
        name: tensor + 0.02 * torch.randn_like(tensor)
        for name, tensor in load_file(MODEL / "model.safetensors").items()
    }


@asynccontextmanager
async def served(**settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Settings(engine="torch", **settings))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://app", timeout=None) as client,
    ):
        yield client


async def push(client: httpx.AsyncClient, version: str, body: bytes, **headers: str) -> httpx.Response:
    return await client.put("/policy/weights", content=body, headers={"X-Weight-Version": version, **headers})


async def numbers(client: httpx.AsyncClient, version: str) -> object:
    answer = (await client.post("/reward", json=BODY)).json()
    assert answer["model"]["weight_version"] == version
    return answer["groups"]


@pytest.fixture(scope="module")
def bodies() -> dict[int, bytes]:
    return {seed: save(tensors(seed)) for seed in (1, 2)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, bodies: dict[int, bytes]) -> dict[int, Path]:
    """The same weights as models of their own, for fresh engines."""
    found = {}
    for seed in bodies:
        folder = tmp_path_factory.mktemp(f"model-{seed}")
        for file in MODEL.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        (folder / "model.safetensors").write_bytes(bodies[seed])
        found[seed] = folder
    return found


@pytest.mark.parametrize("mode", ["shadow", "in_place"])
async def test_a_push_makes_every_number_a_fresh_services(
    mode: str, bodies: dict[int, bytes], folders: dict[int, Path]
):
    async with served(weights_mode=mode) as client:
        before = await numbers(client, "0")
        ids = (await client.get("/policy")).json()["canary"]["token_ids"]
        model = AutoModelForCausalLM.from_pretrained(folders[1], dtype=torch.float32)
        batch = torch.tensor([ids])
        with torch.no_grad():
            own = -float(model(input_ids=batch, labels=batch).loss)
        done = await push(client, "1", bodies[1], **{"X-Canary-Logprob": str(own)})
        assert done.status_code == 200, done.text
        assert done.json()["canary"]["mean_logprob"] == pytest.approx(own, abs=1e-5), "minus the model's loss"
        after = await numbers(client, "1")
    async with served(model=str(folders[1]), weight_version="fresh") as fresh:
        assert await numbers(fresh, "fresh") == after != before


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda t: t["model.norm.weight"].fill_(float("nan")), "'model.norm.weight' holds NaN"),
        (lambda t: t.pop("model.norm.weight"), "'model.norm.weight' is missing"),
        (lambda t: t.update({"more": torch.ones(1)}), "'more' is none of the model's"),
        (lambda t: t.update({"model.norm.weight": torch.ones(3)}), "'model.norm.weight' has shape [3]"),
    ],
)
async def test_bad_weights_leave_the_old_ones(spoil, said: str):
    bad = tensors(3)
    spoil(bad)
    async with served() as client:
        before = await numbers(client, "0")
        for body, message in ((save(bad), said), (save(tensors(3))[:-1000], "cut short inside tensor")):
            refused = await push(client, "1", body)
            assert (refused.status_code, refused.json()["error"]["code"]) == (422, "invalid_weights")
            assert message in refused.json()["error"]["message"]
            assert await numbers(client, "0") == before


@pytest.mark.parametrize("mode", ["shadow", "in_place"])
async def test_swaps_under_load_mix_nothing(mode: str, bodies: dict[int, bytes]):
    async with served(weights_mode=mode) as client:
        quiet = {}
        for seed in bodies:
            await push(client, str(seed), bodies[seed])
            quiet[str(seed)] = await numbers(client, str(seed))
        done, seen = asyncio.Event(), []

        async def ask() -> None:
            while not done.is_set():
                response = await client.post("/reward", json=BODY)
                if response.status_code == 503:
                    continue
                answer = response.json()
                seen.append(answer["model"]["weight_version"])
                for group, expected in zip(answer["groups"], quiet[seen[-1]], strict=True):
                    for one, other in zip(group["trajectories"], expected["trajectories"], strict=True):
                        assert one["mean_logprob"] == pytest.approx(other["mean_logprob"], abs=1e-4)

        asking = [asyncio.create_task(ask()) for _ in range(4)]
        for seed in itertools.islice(itertools.cycle(bodies), 8):
            await asyncio.sleep(0.1)
            assert (await push(client, str(seed), bodies[seed])).status_code == 200
        done.set()
        await asyncio.gather(*asking)
        assert set(seen) == {"1", "2"}
        assert quiet["1"] != quiet["2"]
