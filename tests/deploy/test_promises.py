"""What the manifests must promise each other and the service: times, names, keys, privileges."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from opera_service.server.app import create_app
from opera_service.server.settings import Settings

from .cluster import (
    COMPONENTS,
    OVERLAYS,
    Object,
    container_of,
    one,
    overlay,
    pod_of,
    settings_of,
    with_components,
)

HAND_MADE_SECRETS = {"opera-reward-keys", "opera-reward-hub"}


@pytest.fixture(params=OVERLAYS)
def objects(request: pytest.FixtureRequest) -> list[Object]:
    """The objects of one overlay."""
    return overlay(request.param)


def probe_seconds(probe: Object) -> int:
    """The longest time until a failing probe has its way."""
    return probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"]


def mappings(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping inside, outermost first."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from mappings(inner)


def test_nothing_is_killed_that_still_drains(objects: list[Object]):
    pod, container = pod_of(objects), container_of(objects)
    pre_stop = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = float(settings_of(objects)["OPERA_DRAIN_TIMEOUT"])
    # Requests have one drain timeout, the batch that is on the engine then has another.
    assert pod["terminationGracePeriodSeconds"] >= pre_stop + 2 * drain + 20


def test_no_traffic_arrives_after_the_listening_ends(objects: list[Object]):
    """A pod serves on during preStop; routers that go by readiness must have given it up by then."""
    container = container_of(objects)
    readiness = container["readinessProbe"]
    assert container["lifecycle"]["preStop"]["sleep"]["seconds"] > probe_seconds(readiness)


def test_a_slow_start_is_neither_killed_nor_given_up(objects: list[Object]):
    container = container_of(objects)
    start = probe_seconds(container["startupProbe"])
    assert start >= 20 * 60, "the time to read a large model from a cold disk"
    assert one(objects, "Deployment")["spec"]["progressDeadlineSeconds"] > start


def test_a_rollout_never_has_fewer_pods(objects: list[Object]):
    spec = one(objects, "Deployment")["spec"]
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert spec["strategy"]["rollingUpdate"]["maxSurge"] >= 1
    assert "replicas" not in spec, "it would undo the autoscaler at every apply"


def test_three_probes_ask_three_endpoints_that_exist(objects: list[Object]):
    container = container_of(objects)
    paths = [container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")]
    assert paths == ["/startupz", "/readyz", "/livez"]
    served = set(create_app(Settings(engine="dummy")).openapi()["paths"])
    assert served > {*paths, "/metrics"}
    (port,) = container["ports"]
    assert port == {"name": "http", "containerPort": int(settings_of(objects)["OPERA_PORT"])}


def test_settings_are_the_services_own(objects: list[Object], monkeypatch: pytest.MonkeyPatch):
    """The service must start with the ConfigMap's environment; a misspelt name would be silently ignored."""
    environment = settings_of(objects)
    names = {name for name in environment if name.startswith("OPERA_")}
    known = {f"OPERA_{field.upper()}" for field in Settings.model_fields}
    assert {name.partition("__")[0] for name in names} <= known
    for name in names:
        monkeypatch.setenv(name, environment[name])
    settings = Settings()
    assert settings.host == "0.0.0.0"
    assert settings.drain_timeout == float(environment["OPERA_DRAIN_TIMEOUT"])
    for file in (settings.api_key_file, settings.admin_key_file):
        mounts = {mount["mountPath"] for mount in container_of(objects)["volumeMounts"]}
        assert str(file.parent) in mounts


def test_least_privilege(objects: list[Object]):
    pod = pod_of(objects)
    assert pod["automountServiceAccountToken"] is False
    assert one(objects, "ServiceAccount")["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert {pod["securityContext"][key] for key in ("runAsUser", "runAsGroup", "fsGroup")} == {10001}
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in (*pod["containers"], *pod.get("initContainers", [])):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    for privilege in ("hostNetwork", "hostPID", "hostIPC"):
        assert privilege not in pod
    assert not any("hostPath" in volume for volume in pod["volumes"])


def test_what_is_named_is_there(objects: list[Object]):
    names = {(item["kind"], item["metadata"]["name"]) for item in objects}
    pod = pod_of(objects)
    asked = {("ServiceAccount", pod["serviceAccountName"])}
    for mapping in mappings(pod):
        for key in ("configMapRef", "configMapKeyRef"):
            if key in mapping:
                asked.add(("ConfigMap", mapping[key]["name"]))
        if "persistentVolumeClaim" in mapping:
            asked.add(("PersistentVolumeClaim", mapping["persistentVolumeClaim"]["claimName"]))
    assert asked <= names
    volumes = {volume["name"] for volume in pod["volumes"]}
    for container in (*pod["containers"], *pod.get("initContainers", [])):
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


def test_selectors_find_the_pods(objects: list[Object]):
    deployment = one(objects, "Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"].items()
    (spread,) = deployment["template"]["spec"]["topologySpreadConstraints"]
    selectors = [deployment["selector"]["matchLabels"], spread["labelSelector"]["matchLabels"]]
    for item in objects:
        spec = item.get("spec", {})
        if item["kind"] == "Service":
            selectors.append(spec["selector"])
        if item["kind"] == "PodDisruptionBudget":
            selectors.append(spec["selector"]["matchLabels"])
        if item["kind"] == "NetworkPolicy":
            selectors.append(spec["podSelector"]["matchLabels"])
    assert all(selector.items() <= labels for selector in selectors)


@pytest.mark.parametrize("name", COMPONENTS)
def test_no_secret_is_in_a_manifest(name: str):
    objects = with_components(name)
    assert not [item for item in objects if item["kind"] == "Secret"]
    for mapping in mappings(objects):
        for key in ("secretKeyRef", "secretRef", "credentials"):
            if key in mapping:
                assert mapping[key].get("secret", mapping[key])["name"] in HAND_MADE_SECRETS
        if "secretName" in mapping:
            assert mapping["secretName"] in HAND_MADE_SECRETS
        if re.search("TOKEN|KEY$|PASSWORD|SECRET", str(mapping.get("name", ""))):
            assert "value" not in mapping


@pytest.mark.parametrize("name", ["gpu", "gpu-vllm"])
def test_gpu_pods(name: str):
    pod, container = pod_of(overlay(name)), container_of(overlay(name))
    assert int(container["resources"]["limits"]["nvidia.com/gpu"]) >= 1
    assert any(one_of["key"] == "nvidia.com/gpu" for one_of in pod["tolerations"])
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert volumes[mounts["/dev/shm"]["name"]]["emptyDir"]["medium"] == "Memory"
    assert mounts["/models"]["readOnly"] is True, "only the download writes there"
    assert {"name": "HF_HUB_OFFLINE", "value": "1"} in container["env"]


def test_only_one_autoscaler_at_a_time():
    for name in OVERLAYS:
        scalers = [item for item in overlay(name) if item["kind"] in ("HorizontalPodAutoscaler", "ScaledObject")]
        assert len(scalers) == (0 if name == "cpu-demo" else 1)


def test_both_autoscalers_scale_alike():
    hpa = one(with_components("hpa"), "HorizontalPodAutoscaler")["spec"]
    keda = one(with_components("keda"), "ScaledObject")["spec"]
    (trigger,) = keda["triggers"]
    assert hpa["behavior"] == keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert (hpa["minReplicas"], hpa["maxReplicas"]) == (keda["minReplicaCount"], keda["maxReplicaCount"])
    assert hpa["metrics"][0]["pods"]["target"]["averageValue"] == trigger["metadata"]["threshold"]
    assert hpa["behavior"]["scaleUp"]["stabilizationWindowSeconds"] == 0
    assert hpa["behavior"]["scaleDown"]["stabilizationWindowSeconds"] >= 300
    assert trigger["metadata"]["ignoreNullValues"] == "false"
    assert hpa["minReplicas"] <= keda["fallback"]["replicas"] <= hpa["maxReplicas"]
    assert "metricName" not in trigger["metadata"], "KEDA knows it no more"
