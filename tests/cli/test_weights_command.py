"""`opera-reward weights push` and `load`: one line, the right exit code, the right key."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tests.service.live import Live, live
from typer.testing import CliRunner

from opera_cli.main import build


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys, and weights 1 to 3."""
    folder = tmp_path_factory.mktemp("weights")
    (folder / "admins").write_text("root\n")
    for salt in (1, 2, 3):
        save_file({"salt": np.array(salt)}, folder / f"{salt}.safetensors")
    save_file({"pepper": np.array(1)}, folder / "bad.safetensors")
    return folder


@pytest.fixture(scope="module")
def server(files: Path):
    with live(
        "--engine", "dummy", "--admin-key-file", str(files / "admins"), "--policy-root", str(files)
    ) as running:
        yield running


def run(*argv: str, key: str = "root") -> tuple[int, str]:
    done = CliRunner().invoke(build(), ["weights", *argv], env={"OPERA_ADMIN_KEY": key, "OPERA_REWARD_URL": ""})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert done.stdout == ""
    return done.exit_code, done.stderr.strip()


def test_weights_are_pushed_and_loaded(server: Live, files: Path):
    code, line = run("push", str(files / "1.safetensors"), "--version", "v1", "--url", server.url)
    assert (code, line.count("\n")) == (0, 0)
    assert "serves v1 after 0" in line
    code, line = run("push", str(files / "1.safetensors"), "--version", "v1", "--url", server.url)
    assert (code, "already" in line) == (0, True)
    code, line = run("load", str(files / "2.safetensors"), "--version", "v2", "--url", server.url)
    assert (code, "serves v2 after v1" in line) == (0, True)


@pytest.mark.parametrize(
    ("argv", "key", "code", "said"),
    [
        (["push", "{files}/bad.safetensors", "--version", "v9"], "root", 2, "'salt' is missing"),
        (["push", "{files}/3.safetensors", "--version", "v9"], "user", 2, "admin key"),
        (["push", "{files}/3.safetensors", "--version", "v9", "--canary-logprob", "-99"], "root", 2, "canary"),
        (["push", "{files}/gone.safetensors", "--version", "v9"], "root", 2, "nothing at"),
        (["load", "/etc/passwd", "--version", "v9"], "root", 2, "--policy-root"),
    ],
)
def test_refusals_are_one_line(server: Live, files: Path, argv: list[str], key: str, code: int, said: str):
    got, line = run(*[part.replace("{files}", str(files)) for part in argv], "--url", server.url, key=key)
    assert (got, line.count("\n")) == (code, 0)
    assert said in line


def test_nobody_there(files: Path):
    argv = ["push", str(files / "1.safetensors"), "--version", "v1", "--url", "http://127.0.0.1:9"]
    code, line = run(*argv)
    assert (code, "no answer" in line) == (3, True)
