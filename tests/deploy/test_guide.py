"""What docs/deploy.md tells people to write builds, and does what it says."""

import re
from pathlib import Path

import pytest
import yaml

from .cluster import (
    CHART,
    COMPONENTS,
    KUSTOMIZE,
    OVERLAYS,
    ROOT,
    Object,
    container_of,
    helm,
    kustomize,
    one,
    pod_of,
)
from .test_schemas import check, check_all

GUIDE = (ROOT / "docs" / "deploy.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.+?)```", GUIDE, re.DOTALL)


def block(holding: str) -> str:
    (found,) = [text for text in BLOCKS if holding in text]
    return found


@pytest.fixture
def overlay_folder(tmp_path: Path) -> Path:
    """The guide's own overlay, on this checkout instead of GitHub."""
    (tmp_path / "kustomization.yaml").write_text(local(block("resources:"), tmp_path))
    return tmp_path


def local(text: str, folder: Path) -> str:
    """A block of the guide with this checkout's folders, as seen from `folder`, in place of GitHub's."""
    root = Path(*[".."] * (len(folder.parts) - 1)) / KUSTOMIZE.relative_to(folder.anchor)
    return re.sub(r"github\.com/…/deploy/kustomize/(\S+?)\?ref=…", rf"{root}/\1", text)


def model_of(objects: list[Object]) -> dict[str, str]:
    (found,) = [item for item in objects if item["metadata"]["name"].startswith("opera-reward-model-")]
    return found["data"]


def test_an_overlay_of_ones_own(overlay_folder: Path):
    objects = kustomize(overlay_folder)
    check_all(objects)
    assert model_of(objects) == {"MODEL_ID": "Qwen/Qwen3-8B", "MODEL_REVISION": "COMMIT"}
    images = {item["image"] for item in (container_of(objects), *pod_of(objects)["initContainers"])}
    assert images == {"REGISTRY/opera-reward:0.1.0-gpu"}


def without_the_internet(folder: Path) -> list[Object]:
    file = folder / "kustomization.yaml"
    file.write_text(file.read_text() + local(block("initContainers"), folder))
    return kustomize(folder)


def test_values_of_ones_own():
    objects = helm("values-gpu.yaml", values=yaml.safe_load(block("parametersB")))
    check_all(objects)
    assert one(objects, "ServiceMonitor")["metadata"]["labels"]["release"] == "kube-prometheus-stack"
    assert container_of(objects)["image"] == "REGISTRY/opera-reward:0.1.0-gpu"


def test_every_component_and_overlay_is_in_the_tables():
    """A family of components may be named by its first word."""
    for name in (*OVERLAYS, *COMPONENTS):
        family = name.rsplit("-", 1)[0]
        assert f"`{name}`" in GUIDE or f"`{family}-…`" in GUIDE or name in ("members", "gateway"), name


def test_every_value_that_is_named_exists():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for path in re.findall(r"`([a-z]\w+(?:\.\w+)+)`", GUIDE):
        inner = values
        if path.split(".")[0] in values:
            for step in path.split("."):
                assert step in inner, path
                inner = inner[step]


def test_without_the_internet(overlay_folder: Path):
    objects = without_the_internet(overlay_folder)
    check_all(objects)
    assert "initContainers" not in pod_of(objects)
    (dns,) = one(objects, "NetworkPolicy")["spec"]["egress"]
    assert {port["port"] for port in dns["ports"]} == {53, 5353}


def test_the_pod_that_fills_the_volume(overlay_folder: Path):
    pod = yaml.safe_load(block("kind: Pod"))
    check(pod)
    (volume,) = pod["spec"]["volumes"]
    claim = one(without_the_internet(overlay_folder), "PersistentVolumeClaim")["metadata"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["name"]
    assert pod["metadata"]["namespace"] == claim["namespace"]


def test_every_link_leads_somewhere():
    for page in ("deploy.md", "scaling.md", "alerts.md"):
        text = (ROOT / "docs" / page).read_text()
        for target in re.findall(r"\]\((?!http)(.+?)\)", text):
            file, _, anchor = target.partition("#")
            linked = (ROOT / "docs" / file).read_text() if file else text
            headings = {re.sub(r"[^\w -]", "", line.lstrip("# ")).lower().replace(" ", "-")
                        for line in linked.splitlines() if line.startswith("#")}  # fmt: skip
            assert not anchor or anchor in headings, target


def test_every_environment_variable_is_a_setting():
    from opera_service.server.settings import Settings

    known = {f"OPERA_{name.upper()}" for name in Settings.model_fields}
    for name in re.findall(r"OPERA_[A-Z_]+[A-Z]", GUIDE):
        assert name.partition("__")[0] in known, name
