"""The coordinator's file outlives a coordinator that dies while it writes."""

from pathlib import Path

import pytest

from opera_service.ray_serve import coordinator
from opera_service.ray_serve.ledger import Weights


def test_one_that_dies_while_it_writes_leaves_the_state_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "set" / "state.json"
    first, second = Weights(1, "one", "sha256:1"), Weights(2, "two", "sha256:2")
    coordinator.write_state(path, first, {"0": "sha256:0"})
    whole = Path.write_text

    def half(self: Path, text: str, **options: str) -> int:
        whole(self, text[: len(text) // 2], **options)
        raise OSError("the machine is gone")

    with monkeypatch.context() as dying:
        dying.setattr(Path, "write_text", half)
        with pytest.raises(OSError, match="gone"):
            coordinator.write_state(path, second, {})
    kept = {"current": first, "revisions": {"0": "sha256:0", "one": "sha256:1"}}
    assert coordinator.read_state(path) == kept
    coordinator.write_state(path, second, kept["revisions"])
    assert coordinator.read_state(path)["current"] == second
