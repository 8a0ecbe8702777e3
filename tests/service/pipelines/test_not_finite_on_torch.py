"""A token that overflows in a real model: its trajectory's error, and rewards as on a quiet one for the others."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from opera_client.wire import RewardRequest
from opera_service.engines.torch.engine import TorchEngine
from opera_service.pipelines.reward import score_groups
from opera_service.server.backends import Backend
from opera_service.trajectories.hf_tokenizer import HFTokenizer

from ..app import runtime_on

RESPONSES = {
    "a": "<think>\n7 + 5 carries, so it is 42.\n\nWait, let me check it again.\n\n</think>\n\n42",
    "bad": "<think>\nThe sea is grey.\n\nHmm, maybe § not.\n\n</think>\n\n32",
    "b": "<think>\nThe sea is grey.\n\nHmm, maybe not.\n\n</think>\n\n32",
    "c": "<think>\nHowever, the sum stays the same.\n\n</think>\n\n42",
}


@contextmanager
def overflowing(engine: TorchEngine, token: int) -> Iterator[None]:
    """Every forward that is fed `token` finds no numbers where it stands."""

    def spoil(module: torch.nn.Module, given: tuple, hidden: torch.Tensor) -> torch.Tensor:
        return hidden.masked_fill((given[0] == token)[..., None], math.nan)

    hook = engine.scorer.loaded.model.get_input_embeddings().register_forward_hook(spoil)
    try:
        yield
    finally:
        hook.remove()


def request(*names: str, reference: str = "It is 42.") -> RewardRequest:
    trajectories = [{"id": name, "response": RESPONSES[name]} for name in names]
    groups = [{"prompt": "What is 17 + 25?", "reference": reference, "trajectories": trajectories}]
    return RewardRequest.model_validate({"groups": groups, "detail": "tokens"})


@pytest.mark.parametrize("route", ["tree_sdpa", "kv_fork", "naive"])
@pytest.mark.parametrize("preset", ["hardened", "paper"])
async def test_a_trajectory_that_overflows_fails_alone(tiny_qwen: Path, route: str, preset: str):
    tokenizer = HFTokenizer.load(str(tiny_qwen))
    engine = TorchEngine.load(tiny_qwen, route=route, dtype="float64", device="cpu")
    runtime = runtime_on(Backend(engine, tokenizer), cache_mb=0)
    odd = next(iter(set(tokenizer.encode("§").tolist()) - set(tokenizer.encode(RESPONSES["b"]).tolist())))
    ask = {"preset": preset}
    try:
        quiet = await score_groups(runtime, request("a", "b", "c").model_copy(update=ask))
        with overflowing(engine, odd):
            found = await score_groups(runtime, request("a", "bad", "b", "c").model_copy(update=ask))
    finally:
        await runtime.aclose()
    a, bad, *rest = found.groups[0].trajectories
    assert bad.reward is None
    assert bad.error is not None
    assert bad.error.code == "engine_failed"
    for one, expected in zip([a, *rest], quiet.groups[0].trajectories, strict=True):
        assert one.status == "ok"
        assert one.reward == pytest.approx(expected.reward, abs=1e-9)
        assert one.token_logprobs == pytest.approx(expected.token_logprobs, abs=1e-10)
        for segment, quiet_one in zip(one.segments or (), expected.segments or (), strict=True):
            assert segment.gain == pytest.approx(quiet_one.gain, abs=1e-10)
