"""Apps on the dummy engine, asked without a port."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager

import pytest

from opera_service.engines.dummy import DummyEngine
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import TokenTree
from opera_service.trajectories.byte_tokenizer import ByteTokenizer

from ..app import AppClient, opened

Open = Callable[..., AbstractAsyncContextManager[AppClient]]


class FussyEngine(DummyEngine):
    """The dummy engine, except that trees holding a given token raise."""

    def __init__(self, *, bad_token: int, error: Exception, **limits) -> None:
        super().__init__(ByteTokenizer.vocab_size, **limits)
        self.bad_token, self.error = bad_token, error

    async def score(self, trees: Sequence[TokenTree]) -> list[TreeScores]:
        if any(self.bad_token in tree.tokens for tree in trees):
            raise self.error
        return await super().score(trees)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPERA_API_KEYS", "OPERA_API_KEY_FILE", "OPERA_CONFIG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def client() -> AsyncIterator[AppClient]:
    async with opened() as running:
        yield running


@pytest.fixture
def open_app() -> Open:
    return opened


def group(**changes) -> dict:
    """One good group of two."""
    return {
        "group_id": "q1",
        "prompt": "What is 17 + 25?\n",
        "reference": "42",
        "trajectories": [
            {"id": "a", "response": "<think>\n17 + 25 is 32.\n\nWait, 7 + 5 carries: 42.\n\n</think>\n\n42"},
            {"id": "b", "response": "<think>\nI would say 32.\n\n</think>\n\n32"},
        ],
        **changes,
    }
