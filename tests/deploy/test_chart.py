"""The chart makes the objects that kustomize makes: one truth, two ways to install it."""

import re
from typing import Any

import helm_python
import pytest

from .cluster import (
    CHART,
    COMPONENTS,
    NAME,
    OVERLAYS,
    Object,
    container_of,
    helm,
    one,
    overlay,
    pod_of,
    settings_of,
    with_components,
    without_hash,
)

COMPONENT_VALUES: dict[str, dict[str, Any]] = {
    "gpu": {"gpu": {"enabled": True}},
    "vllm": {
        "gpu": {"enabled": True},
        "settings": {"OPERA_ENGINE": "vllm", "OPERA_VLLM__GPU_MEMORY_UTILIZATION": 0.85},
    },
    "model-cache": {"modelCache": {"enabled": True}},
    "model-claim": {"modelCache": {"enabled": True, "volume": "claim"}},
    "model-shared": {"modelCache": {"enabled": True, "volume": "shared"}},
    "monitoring": {"monitoring": {"kind": "operator"}},
    "monitoring-gke": {"monitoring": {"kind": "gke"}},
    "networkpolicy": {"networkPolicy": {"enabled": True}},
    "networkpolicy-otlp": {"networkPolicy": {"enabled": True, "otlp": {"enabled": True}}},
    "networkpolicy-mesh": {"networkPolicy": {"enabled": True, "mesh": {"enabled": True}}},
    "networkpolicy-vllm-http": {"networkPolicy": {"enabled": True, "vllmHttp": {"enabled": True}}},
    "ingress-nginx": {"routing": {"kind": "ingress-nginx"}},
    "envoy-gateway": {"routing": {"kind": "envoy-gateway"}},
    "istio": {"routing": {"kind": "istio"}},
    "inference-pool": {"inferencePool": {"enabled": True}},
    "kueue": {"kueue": {"enabled": True}},
    "hpa": {"autoscaling": {"kind": "hpa"}},
    "keda": {"autoscaling": {"kind": "keda"}},
    "keda-to-zero": {"autoscaling": {"kind": "keda", "toZero": True}},
    "ray": {"ray": {"enabled": True}},
}
PARTS = {"gateway", "members"}
"""Components of components."""


def alike(value: Any) -> Any:
    """What both sides must agree on.

    Kustomize names ConfigMaps after their content and has a namespace; the chart annotates the pods with a
    checksum and leaves the namespace to helm. The order of things with names matters for `env` only.
    """
    if isinstance(value, str):
        return without_hash(value)
    if isinstance(value, list):
        items = [alike(item) for item in value]
        return sorted(items, key=lambda item: item["name"]) if _have_names(items) else items
    if isinstance(value, dict):
        found = {
            key: alike(inner) for key, inner in value.items() if key not in ("namespace", "checksum/settings")
        }
        return {key: inner for key, inner in found.items() if key != "annotations" or inner}
    return value


def _have_names(items: list[Any]) -> bool:
    return all(isinstance(item, dict) and "name" in item for item in items)


def by_name(objects: list[Object]) -> dict[tuple[str, str], Object]:
    return {(item["kind"], item["metadata"]["name"]): item for item in alike(objects)}


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_values_file_gives_its_overlay(name: str):
    assert by_name(helm(f"values-{name}.yaml")) == by_name(overlay(name))


def test_every_component_has_its_value():
    assert {*COMPONENT_VALUES, *PARTS} == set(COMPONENTS)


@pytest.mark.parametrize("name", COMPONENT_VALUES)
def test_a_value_gives_its_component(name: str):
    assert by_name(helm(values=COMPONENT_VALUES[name])) == by_name(with_components(name))


def test_the_order_of_variables_is_kept():
    """$(MODEL_ID) is known only below the line that sets it."""
    for objects in (helm("values-gpu.yaml"), overlay("gpu")):
        names = [variable["name"] for variable in container_of(objects)["env"]]
        assert names.index("OPERA_MODEL") > max(names.index("MODEL_ID"), names.index("MODEL_REVISION"))


def test_it_lints():
    result = helm_python.lint(str(CHART))
    assert result["errors"] == []
    assert [message for message in result["messages"] if "icon" not in message["error"]] == []


def test_time_to_leave_follows_the_drain():
    pod = pod_of(helm(values={"settings": {"OPERA_DRAIN_TIMEOUT": 299.5}}))
    assert pod["terminationGracePeriodSeconds"] == 15 + 2 * 300 + 25


def test_a_changed_setting_rolls_the_pods():
    def annotations(**settings: Any) -> dict[str, str]:
        return one(helm(values={"settings": settings}), "Deployment")["spec"]["template"]["metadata"][
            "annotations"
        ]

    assert annotations(OPERA_LOG_LEVEL="debug") != annotations()


def test_values_reach_the_objects():
    objects = helm(
        values={
            "image": {"repository": "registry.example/opera", "tag": "7", "pullSecrets": [{"name": "pull"}]},
            "keysSecret": "my-keys",
            "replicas": 3,
            "model": {"id": "org/model", "revision": "abc"},
            "modelCache": {"enabled": True, "volume": "shared", "size": "1Ti", "storageClassName": "nfs"},
            "autoscaling": {"kind": "keda", "minReplicas": 2, "maxReplicas": 64, "targetTokens": 1_500_000},
            "resources": {"limits": {"memory": "9Gi"}},
            "nodeSelector": {"gpu": "h200"},
            "tolerations": [{"key": "spot", "operator": "Exists"}],
            "readOnlyRootFilesystem": False,
            "settings": {"OPERA_ENGINE": "dummy", "OPERA_TRUST_REMOTE_CODE": False},
        }
    )  # fmt: skip
    pod, container = pod_of(objects), container_of(objects)
    assert {item["image"] for item in (container, *pod["initContainers"])} == {"registry.example/opera:7"}
    assert pod["imagePullSecrets"] == [{"name": "pull"}]
    assert one(objects, "Deployment")["spec"]["replicas"] == 3
    assert container["resources"]["limits"]["memory"] == "9Gi"
    assert (pod["nodeSelector"], pod["tolerations"]) == ({"gpu": "h200"}, [{"key": "spot", "operator": "Exists"}])
    assert container["securityContext"]["readOnlyRootFilesystem"] is False
    assert {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume} == {"my-keys"}
    assert settings_of(objects)["OPERA_TRUST_REMOTE_CODE"] == "false"
    claim = one(objects, "PersistentVolumeClaim")["spec"]
    assert (claim["storageClassName"], claim["resources"]["requests"]["storage"]) == ("nfs", "1Ti")
    assert one(objects, "ConfigMap", f"{NAME}-model")["data"] == {"MODEL_ID": "org/model", "MODEL_REVISION": "abc"}
    scaled = one(objects, "ScaledObject")["spec"]
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (2, 64)
    assert scaled["triggers"][0]["metadata"]["threshold"] == "1500000"


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"setings": {}}, "setings"),
        ({"autoscaling": {"kind": "vpa"}}, "kind"),
        ({"autoscaling": {"kind": "hpa", "targetTokens": 0}}, "targetTokens"),
        ({"settings": {"OPERA_API_KEYS": "sesame"}}, "OPERA_API_KEYS"),
        ({"gpu": True}, "gpu"),
        ({"ray": {"enabled": True}, "autoscaling": {"kind": "hpa"}}, "ray scales by itself"),
    ],
)
def test_wrong_values_are_refused_by_name(values: dict[str, Any], named: str):
    with pytest.raises(helm_python.HelmError, match=re.escape(named)):
        helm(values=values)
