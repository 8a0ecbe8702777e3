"""A Python environment like a GPU machine's: torch and transformers, none of the service's packages."""

import base64
import hashlib
import re
import sysconfig
import venv
import zipfile
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

ABSENT = ("fastapi", "fastapi-offline", "starlette", "uvicorn", "pydantic", "pydantic-core", "pydantic-settings")
MACHINE = ("torch", "transformers", "numpy", "safetensors", "accelerate", "pyarrow", "pip")
WHEELS = Path(__file__).parents[3] / "benchmarks" / "gpu" / "wheels.txt"


def carried() -> list[str]:
    """Return the names of the wheels that prepare.sh collects."""
    lines = (line.partition("#")[0].strip() for line in WHEELS.read_text(encoding="utf-8").splitlines())
    return [Requirement(line).name for line in lines if line]


def closure(names: Iterable[str]) -> set[str]:
    """Return these packages and all that they need, as far as they are installed, by their canonical names."""
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [Requirement(name) for name in names]
    while waiting:
        wanted = waiting.pop()
        key = canonical(wanted.name), frozenset(wanted.extras)
        if key in seen:
            continue
        seen.add(key)
        try:
            needs = [Requirement(line) for line in distribution(wanted.name).requires or ()]
        except PackageNotFoundError:
            continue
        extras = wanted.extras or {""}
        waiting += [
            need
            for need in needs
            if not need.marker or any(need.marker.evaluate({"extra": each}) for each in extras)
        ]
    return {name for name, _ in seen}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def make_environment(folder: Path) -> Path:
    """Make a virtual environment of links to what `MACHINE` needs; return its Python."""
    venv.create(folder, symlinks=True, with_pip=False)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    for name in closure(MACHINE) - set(ABSENT):  # what is newer here than there may need more
        try:
            files = distribution(name).files or ()
        except PackageNotFoundError:
            continue
        for top in {file.parts[0] for file in files if file.parts[0] not in ("..", "__pycache__")}:
            source, link = Path(str(distribution(name).locate_file(top))), site / top
            if source.exists() and not link.exists():
                link.symlink_to(source)
    return folder / "bin" / "python"


def make_wheels(folder: Path) -> None:
    """Make wheels of the carried packages as they are installed here."""
    folder.mkdir(parents=True)
    for name in carried():
        try:
            _make_wheel(distribution(name), folder)
        except PackageNotFoundError:
            continue  # the real run's; nothing here needs it


def _make_wheel(found: Distribution, folder: Path) -> None:
    stem = f"{canonical(found.name).replace('-', '_')}-{found.version}"
    record = []
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        for file in found.files or ():
            if file.parts[0] == ".." or "__pycache__" in file.parts or file.name in ("RECORD", "INSTALLER"):
                continue
            name = file.as_posix()
            if file.parts[0].endswith(".dist-info"):
                name = f"{stem}.dist-info/{'/'.join(file.parts[1:])}"
            content = Path(str(file.locate())).read_bytes()
            wheel.writestr(name, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(content)}")
        wheel.writestr(f"{stem}.dist-info/RECORD", "\n".join([*record, f"{stem}.dist-info/RECORD,,"]))
