"""Python code that comes with a model runs only when asked to."""

import json
from pathlib import Path

import pytest

from opera_client.errors import EngineFailed, NotSupported
from opera_service.engines.torch.loading import load_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder whose configuration brings code, which leaves a trace when it runs."""
    folder = tmp_path / "model"
    folder.mkdir()
    trace = tmp_path / "trace"
    classes = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    (folder / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": classes}))
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "own.py").write_text(f"open({str(trace)!r}, 'w').close()\nraise ImportError('it ran')\n")
    return folder


def test_code_of_a_model_does_not_run(model: Path, tmp_path: Path):
    with pytest.raises(NotSupported, match="--trust-remote-code"):
        load_model(model)
    assert not (tmp_path / "trace").exists()


def test_code_of_a_model_runs_when_trusted(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    with pytest.raises(EngineFailed, match="it ran"):
        load_model(model, trust_remote_code=True)
    assert (tmp_path / "trace").exists()
