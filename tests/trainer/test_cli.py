"""`opera-reward train`: what its arguments mean, up to the configuration."""

import signal

import pytest

from opera_trainer.cli import run


@pytest.fixture(autouse=True)
def _own_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)


@pytest.mark.parametrize(
    "several",
    [
        ["--only", "paper", "synced", "--seeds", "0", "1"],
        ["--only", "paper", "--only", "synced", "--seeds", "0", "--seeds", "1"],
        [],
    ],
)
def test_cells_and_seeds_are_named_behind_one_flag_or_several(several, capsys):
    assert run(["ablate", "nowhere.yaml", *several]) == 2
    assert capsys.readouterr().err.startswith("opera-reward train: ")  # of the file, not of the usage


def test_an_unknown_cell_is_named(tmp_path, capsys):
    assert run(["ablate", "demo", "--out", str(tmp_path), "--only", "paper", "nonsense", "--seeds", "0"]) == 2
    assert "--only: no cell nonsense" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["ablate", "demo", "--seeds", "one"], ["run"], ["sing"], ["demo", "--sed", "1"]])
def test_bad_usage_is_two(argv, capsys):
    assert run(argv) == 2
    assert "Usage: opera-reward train" in capsys.readouterr().err
