"""What a platform sets on every chart is accepted, and reaches the objects that it is meant for."""

from typing import Any

import pytest

from .cluster import Object, container_of, helm, one, pod_of
from .conftest import EVERYTHING
from .test_schemas import check_all

AFFINITY = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]
        }
    }
}
OTLP_HEADER = {
    "name": "OTEL_EXPORTER_OTLP_HEADERS",
    "valueFrom": {"secretKeyRef": {"name": "otlp", "key": "headers"}},
}
PLATFORM: dict[str, Any] = {
    # A parent chart hands these to every subchart.
    "global": {"imageRegistry": "registry.example"},
    "enabled": True,
    "labels": {"team": "rl", "cost-center": "42"},
    "podLabels": {"sidecar.istio.io/inject": "true"},
    "podAnnotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"},
    "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/reward"}},
    "affinity": AFFINITY,
    "runtimeClassName": "nvidia",
    "priorityClassName": "high",
    "schedulerName": "volcano",
    "env": [OTLP_HEADER],
    "monitoring": {"kind": "operator", "rules": True, "labels": {"release": "kube-prometheus-stack"}},
    "networkPolicy": {
        "enabled": True, "namespaces": ["prom", "edge"], "otlp": {"enabled": True, "namespace": "otel"},
    },
    "modelCache": {
        "enabled": True, "volume": "claim", "storageClassName": "gp3", "accessModes": ["ReadWriteOncePod"],
    },
}  # fmt: skip


@pytest.fixture
def objects() -> list[Object]:
    return helm("values-gpu-vllm.yaml", values=PLATFORM)


def test_the_objects_are_valid(objects: list[Object]):
    check_all(objects)


def test_labels_are_on_every_object_and_keep_what_is_ours(objects: list[Object]):
    plain = {(item["kind"], item["metadata"]["name"]): item for item in helm(values=EVERYTHING)}
    for item in helm(values={**EVERYTHING, "labels": PLATFORM["labels"]}):
        own = plain[item["kind"], item["metadata"]["name"]]["metadata"].get("labels", {})
        assert item["metadata"]["labels"] == {**own, **PLATFORM["labels"]}
    assert len(plain) > 12


def test_labels_never_change_a_selector(objects: list[Object]):
    stolen = helm(
        values={"labels": {"app.kubernetes.io/instance": "other"}, "podLabels": {"app.kubernetes.io/name": "x"}}
    )
    deployment = one(stolen, "Deployment")
    selector = deployment["spec"]["selector"]["matchLabels"]
    assert selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    assert selector.items() <= deployment["metadata"]["labels"].items()


def test_pods_get_what_the_platform_says(objects: list[Object]):
    template, pod = one(objects, "Deployment")["spec"]["template"], pod_of(objects)
    assert PLATFORM["podLabels"].items() <= template["metadata"]["labels"].items()
    assert PLATFORM["podAnnotations"].items() <= template["metadata"]["annotations"].items()
    assert "checksum/settings" in template["metadata"]["annotations"]
    for name in ("affinity", "runtimeClassName", "priorityClassName", "schedulerName"):
        assert pod[name] == PLATFORM[name]
    assert OTLP_HEADER in container_of(objects)["env"]
    assert one(objects, "ServiceAccount")["metadata"]["annotations"] == PLATFORM["serviceAccount"]["annotations"]


def test_prometheus_selects_monitor_and_rules(objects: list[Object]):
    for kind in ("ServiceMonitor", "PrometheusRule"):
        assert one(objects, kind)["metadata"]["labels"]["release"] == "kube-prometheus-stack"
    assert "release" not in one(objects, "ScaledObject")["metadata"]["labels"]


def test_the_network_opens_to_the_platforms_namespaces(objects: list[Object]):
    policy, otlp = (one(objects, "NetworkPolicy", f"opera-reward{end}")["spec"] for end in ("", "-otlp"))
    (rule,) = policy["ingress"]
    assert rule["from"][-1]["namespaceSelector"]["matchExpressions"][0]["values"] == ["prom", "edge"]
    (peer,) = otlp["egress"][0]["to"]
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "otel"}


@pytest.mark.parametrize("kind", ["claim", "shared"])
def test_class_and_modes_reach_the_claim(kind: str):
    cache = {"volume": kind, "storageClassName": "fast", "accessModes": ["ReadWriteOncePod"]}
    objects = helm("values-gpu.yaml", values={"modelCache": cache})
    spec = claim(objects)["spec"]
    assert (spec["storageClassName"], spec["accessModes"]) == ("fast", ["ReadWriteOncePod"])


def claim(objects: list[Object]) -> Object:
    (models,) = [volume for volume in pod_of(objects)["volumes"] if volume["name"] == "models"]
    return (
        models["ephemeral"]["volumeClaimTemplate"]
        if "ephemeral" in models
        else one(objects, "PersistentVolumeClaim")
    )


def test_by_default_the_model_is_on_a_volume_that_binds_anywhere():
    """No claim, so no storage class and no access mode that a cluster may lack."""
    for file in ("values-gpu.yaml", "values-gpu-vllm.yaml", "values-gpu-vllm-70b.yaml"):
        objects = helm(file)
        assert not [item for item in objects if item["kind"] == "PersistentVolumeClaim"]
        assert all({"emptyDir", "secret"} & volume.keys() for volume in pod_of(objects)["volumes"])


@pytest.mark.parametrize(("kind", "mode"), [("claim", "ReadWriteOnce"), ("shared", "ReadWriteMany")])
def test_claims_ask_for_what_they_need(kind: str, mode: str):
    spec = claim(helm("values-gpu.yaml", values={"modelCache": {"volume": kind}}))["spec"]
    assert spec["accessModes"] == [mode]
    assert "storageClassName" not in spec
