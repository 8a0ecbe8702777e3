"""One real service for the adapters' tests, with a gate before it; the trainers' own folders may serve another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.adapters.gate import Gate


@pytest.fixture(scope="session")
def gate() -> Iterator[Gate]:
    """The service, on the dummy engine."""
    from tests.adapters.gate import serving  # here: verl's environment has none of the service's dependencies

    with serving(engine="dummy") as served:
        yield served


@pytest.fixture
def service(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """The service, its gate open, nothing noted yet; `OPERA_REWARD_URL` says where it is."""
    gate.open()
    monkeypatch.setenv("OPERA_REWARD_URL", gate.url)
    yield gate
    gate.open()
