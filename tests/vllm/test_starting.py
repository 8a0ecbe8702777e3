"""What a start that cannot work says. No engine process is started here."""

from __future__ import annotations

import pytest

from opera_client.errors import EngineFailed, InvalidRequest

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_vllm_whose_internals_moved_is_named(old, monkeypatch):
    from opera_service.engines.vllm import starting
    from opera_service.engines.vllm.engine import VllmEngine

    def moved(*_: object) -> None:
        raise AttributeError("'KVCacheCoordinator' object has no attribute 'find_longest_cache_hit'")

    monkeypatch.setattr(starting.Core, "start", moved)
    with pytest.raises(EngineFailed, match="did not start") as failure:
        await VllmEngine.load(old.path)
    assert "this engine is for" not in failure.value.message, "it is this version"
    monkeypatch.setattr(starting.vllm, "__version__", "0.33.1")
    with pytest.raises(EngineFailed, match=r"it is 0\.33\.1, and this engine is for 0\.32\.0"):
        await VllmEngine.load(old.path)


async def test_an_argument_that_vllm_does_not_have_is_named(old):
    from opera_service.engines.vllm.engine import VllmEngine

    with pytest.raises(InvalidRequest, match="`max_length`") as failure:
        await VllmEngine.load(old.path, max_length=100)
    assert failure.value.field == "vllm.max_length"


@pytest.mark.parametrize(("on_cpu", "dtype"), [(True, "float32"), (False, "bfloat16")])
async def test_auto_dtype_is_what_it_is_on_every_engine(monkeypatch, on_cpu, dtype):
    """The embedded model's checkpoint is bfloat16; vLLM's own `auto` takes that on a CPU, too."""
    from opera_demo import model_path
    from opera_service.engines.vllm import core

    asked = []
    monkeypatch.setattr(core.current_platform, "is_cpu", lambda: on_cpu)
    monkeypatch.setattr(core.AsyncLLM, "from_engine_args", asked.append)
    monkeypatch.setattr(core.Core, "__init__", lambda *_: None)
    for given, expected in (({}, dtype), ({"dtype": "auto"}, dtype), ({"dtype": "float16"}, "float16")):
        core.Core.start(str(model_path()), given)
        assert asked[-1].dtype == expected
