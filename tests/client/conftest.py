"""What every client test starts from: a toy service, and an environment that names no real one."""

import pytest
from tests.client.toy import Service


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPERA_REWARD_URL", "OPERA_API_KEY"):
        monkeypatch.delenv(name, raising=False)
