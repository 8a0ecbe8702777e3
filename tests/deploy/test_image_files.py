"""Dockerfile and compose file, as far as no image has to be built."""

import json
import re
import subprocess
import sys
import tomllib
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from opera_service.server.settings import Settings

from .cluster import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
HADOLINT = str(Path(sys.executable).with_name("hadolint"))
LOCKED = ("server", "parquet", "otel")
"""Extras that the image has."""
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())


def test_hadolint_has_nothing_to_say():
    done = subprocess.run(
        [HADOLINT, "--format", "json", str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, json.loads(done.stdout)) == (0, [])


def test_all_that_is_copied_is_let_through():
    """.dockerignore starts from nothing; a forgotten folder would fail the build only."""
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    sources = {source.rstrip("/") for line in copied for source in line.split()}
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignore[1] == "*"
    assert sources == {line[1:].rstrip("/") for line in ignore if line.startswith("!")}
    assert all((ROOT / source).exists() for source in sources)


def test_every_package_of_the_wheel_is_copied():
    """A room that is missing there would be missing from the wheel, or stop its build."""
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    rooms = {package.split("/")[0] for package in wheel["packages"]}
    assert rooms <= {target.rstrip("/") for target in re.findall(r"^COPY \S+ (\S+)$", DOCKERFILE, re.MULTILINE)}


@pytest.mark.parametrize("file", ["server.lock", "tools.lock"])
def test_dependencies_are_locked_by_hash(file: str):
    requirements = re.split(r"\n(?=\w)", (ROOT / "deploy" / "image" / file).read_text().split("\n\n")[-1])
    pinned = [text for text in requirements if re.match(r"[\w.-]+==", text)]
    assert len(pinned) > 5
    assert all("--hash=sha256:" in text for text in pinned)


def test_the_lock_and_torch_fit_the_project():
    lock = (ROOT / "deploy" / "image" / "server.lock").read_text()
    project = (ROOT / "pyproject.toml").read_text()
    (torch,) = re.findall(r"^torch==\S+$", (ROOT / "deploy" / "image" / "torch.txt").read_text(), re.MULTILINE)
    assert f'"{torch}"' in project
    assert not re.search(r"^(torch|triton|nvidia-\S+)==", lock, re.MULTILINE), "they depend on the index"
    known = tomllib.loads(project)["project"]
    direct = [*known["dependencies"], *(one for extra in LOCKED for one in known["optional-dependencies"][extra])]
    names = {re.match(r"[\w-]+", requirement)[0] for requirement in direct} - {"torch"}
    assert len(names) > 10
    for name in names:
        assert re.search(rf"^{name}==", lock, re.MULTILINE), f"make lock: {name} is missing"


def compose_problems(content: dict[str, Any]) -> list[str]:
    """What the Compose specification's own schema has to say."""
    schema = json.loads(Path(__file__).with_name("compose-spec.json").read_text())
    return [f"{problem.json_path}: {problem.message}" for problem in Draft7Validator(schema).iter_errors(content)]


def test_compose_reads_the_file():
    assert compose_problems(COMPOSE) == []


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (("services", "opera-reward"), {"stop_grace_periods": "75s"}),
        (("services", "opera-reward", "build"), {"arg": {}}),
        (("services", "prometheus"), {"restart": True}),
        (("services", "grafana"), {"ports": "3000"}),
        ((), {"volume": {}}),
    ],
)
def test_compose_finds_what_is_wrong(path: tuple[str, ...], wrong: dict[str, Any]):
    content = deepcopy(COMPOSE)
    inner = content
    for step in path:
        inner = inner[step]
    inner |= wrong
    assert compose_problems(content)


def test_compose_is_closed_and_leaves_time_to_drain():
    service = COMPOSE["services"]["opera-reward"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert int(service["stop_grace_period"].removesuffix("s")) > 2 * Settings().drain_timeout
    for published in COMPOSE["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in published.get("ports", []))


def test_compose_mounts_what_exists():
    for service in COMPOSE["services"].values():
        for mount in service["volumes"]:
            source = mount.split(":")[0]
            assert source in COMPOSE["volumes"] or Path(ROOT / source).exists(), mount
