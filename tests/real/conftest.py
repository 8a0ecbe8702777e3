"""SmolLM2-135M-Instruct as a user gets it: fetched once, its folder and one engine for the whole session."""

from pathlib import Path

import pytest

from opera_service.model_store.cache import is_complete
from opera_service.model_store.packages import PACKAGES, folder_of


@pytest.fixture(scope="session")
def smollm2() -> Path:
    folder = folder_of(PACKAGES["smollm2"])
    if not is_complete(folder):
        pytest.fail("no model here: run `make real-model` first")
    return folder
