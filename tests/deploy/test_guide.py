"""What docs/deploy.md tells people to write builds, and does what it says."""

import re
from pathlib import Path

import pytest
import yaml

from .cluster import KUSTOMIZE, ROOT, Object, container_of, kustomize, one, pod_of
from .test_schemas import check, check_all

GUIDE = (ROOT / "docs" / "deploy.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.+?)```", GUIDE, re.DOTALL)


def block(holding: str) -> str:
    (found,) = [text for text in BLOCKS if holding in text]
    return found


@pytest.fixture
def overlay_folder(tmp_path: Path) -> Path:
    """The guide's own overlay, on this checkout instead of GitHub."""
    up = Path(*[".."] * (len(tmp_path.parts) - 1))
    here = up / (KUSTOMIZE / "overlays" / "gpu").relative_to(tmp_path.anchor)
    text = re.sub(r"github\.com/…/\S+\?ref=…", str(here), block("resources:"))
    (tmp_path / "kustomization.yaml").write_text(text)
    return tmp_path


def model_of(objects: list[Object]) -> dict[str, str]:
    (found,) = [item for item in objects if item["metadata"]["name"].startswith("opera-reward-model-")]
    return found["data"]


def test_an_overlay_of_ones_own(overlay_folder: Path):
    objects = kustomize(overlay_folder)
    check_all(objects)
    assert model_of(objects) == {"MODEL_ID": "Qwen/Qwen3-8B", "MODEL_REVISION": "COMMIT"}
    images = {item["image"] for item in (container_of(objects), *pod_of(objects)["initContainers"])}
    assert images == {"REGISTRY/opera-reward:0.1.0-gpu"}


def test_without_the_internet(overlay_folder: Path):
    file = overlay_folder / "kustomization.yaml"
    file.write_text(file.read_text() + block("initContainers"))
    objects = kustomize(overlay_folder)
    check_all(objects)
    assert "initContainers" not in pod_of(objects)
    (dns,) = one(objects, "NetworkPolicy")["spec"]["egress"]
    assert {port["port"] for port in dns["ports"]} == {53}


def test_the_pod_that_fills_the_volume(overlay_folder: Path):
    pod = yaml.safe_load(block("kind: Pod"))
    check(pod)
    (volume,) = pod["spec"]["volumes"]
    claim = one(kustomize(overlay_folder), "PersistentVolumeClaim")["metadata"]
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
