"""Which engine is built, and what is said when it cannot be."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from opera_client.errors import NotSupported, Unavailable
from opera_service.server.app import create_app
from opera_service.server.settings import Settings


async def started(settings: Settings) -> None:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        pass


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed here")
async def test_a_missing_vllm_is_one_line_that_names_the_extra():
    with pytest.raises(NotSupported, match=r"opera-reward\[vllm\]") as raised:
        await started(Settings(engine="vllm"))
    assert "\n" not in raised.value.message


async def test_a_vllm_server_that_is_not_there():
    with pytest.raises(Unavailable, match="--vllm-url"):
        await started(Settings(engine="vllm-http", vllm_url="http://127.0.0.1:9"))
