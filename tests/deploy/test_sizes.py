"""A large model fits its own volumes, memory and deadlines: computed here from the model, not the manifests."""

import json
import re
from typing import Any

import pytest

from .cluster import Object, container_of, helm, one, overlay, pod_of, settings_of, written

GIB = 2**30
READ_BYTES_PER_S = 100 * 2**20
"""What a default network volume of EKS and GKE gives at least."""
GPU_BYTES = 80e9
OTHER_START_S = 300
"""Python, NCCL, kernels that are compiled, memory that is measured, without the weights."""

QWEN_72B = 72_706_203_648
"""Parameters, counted from its configuration in `test_the_parameters_are_those_of_the_configuration`."""
MODELS = {
    "72B in bfloat16": (QWEN_72B, 2, 8),
    "72B in fp8": (QWEN_72B, 1, 4),
    "32B in bfloat16": (32_763_876_352, 2, 2),
    "8B in bfloat16": (8_190_735_360, 2, 1),
    "405B in fp8": (405_853_388_800, 1, 8),
}


def size(quantity: str) -> float:
    """Bytes of a Kubernetes quantity."""
    number, unit = re.fullmatch(r"([\d.]+)(Mi|Gi|Ti)", quantity).groups()
    return float(number) * {"Mi": 2**20, "Gi": GIB, "Ti": 2**40}[unit]


def volume(objects: list[Object], name: str) -> Object:
    (found,) = [volume for volume in pod_of(objects)["volumes"] if volume["name"] == name]
    return found


def values(parameters: int, width: int, gpus: int, **cache: Any) -> dict[str, Any]:
    return {
        "model": {"parametersB": round(parameters / 1e9, 1), "bytesPerParameter": width},
        "gpu": {"count": gpus},
        "modelCache": cache,
    }


def check_fits(objects: list[Object], parameters: int, width: int, gpus: int) -> None:
    weights = parameters * width
    container, spec = container_of(objects), one(objects, "Deployment")["spec"]

    cache = size(volume(objects, "cache")["emptyDir"]["sizeLimit"])
    assert cache >= 2 * weights, "two versions of pushed weights lie side by side"
    if (push := settings_of(objects).get("OPERA_MAX_WEIGHTS_GB")) is not None:
        assert float(push) * GIB >= weights, "a push of all weights is not refused"
    else:
        assert weights <= 64 * GIB

    reading = weights / READ_BYTES_PER_S
    probe = container["startupProbe"]
    start = probe["periodSeconds"] * probe["failureThreshold"]
    assert start >= OTHER_START_S + reading, "the start is not killed"
    assert spec["progressDeadlineSeconds"] > reading + start, "nor given up: it comes after the download"

    resources = container["resources"]
    assert int(resources["limits"]["nvidia.com/gpu"]) == gpus
    assert weights <= 0.85 * 0.9 * GPU_BYTES * gpus, "a tenth and more of what vLLM takes is left for work"
    if "models" in {volume["name"] for volume in pod_of(objects)["volumes"]}:
        models = volume(objects, "models").get("emptyDir", {}).get("sizeLimit")
        assert models is None or size(models) >= 1.05 * weights
        disk = (2 if models is None else 3) * weights
        assert disk <= size(resources["requests"]["ephemeral-storage"]), (
            "the pod is put where there is room for it"
        )
    assert size(resources["requests"]["memory"]) <= size(resources["limits"]["memory"])
    assert size(resources["limits"]["memory"]) >= 16 * GIB * (1 + gpus) + size("16Gi"), "processes and /dev/shm"


def test_the_parameters_are_those_of_the_configuration():
    """Embedding and head; of every layer the projections, with biases of q, k and v, the MLP and two norms."""
    hidden, mlp, layers, vocabulary, kv = 8192, 29568, 80, 152064, 8 * 128
    attention = 2 * hidden * hidden + 2 * hidden * kv + hidden + 2 * kv
    total = 2 * vocabulary * hidden + layers * (attention + 3 * hidden * mlp + 2 * hidden) + hidden
    assert total == QWEN_72B


def test_the_overlay_for_70b_fits():
    check_fits(overlay("gpu-vllm-70b"), QWEN_72B, 2, 8)


def test_the_check_finds_what_does_not_fit():
    with pytest.raises(AssertionError, match="two versions"):
        check_fits(overlay("gpu-vllm"), QWEN_72B, 2, 8)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
@pytest.mark.parametrize("kind", ["pod", "claim", "shared"])
def test_the_chart_makes_every_model_fit(model: tuple[int, int, int], kind: str):
    parameters, width, _ = model
    objects = helm("values-gpu-vllm.yaml", values=values(*model, volume=kind))
    check_fits(objects, *model)
    if kind != "pod":
        claim = (
            volume(objects, "models")["ephemeral"]["volumeClaimTemplate"]
            if kind == "claim"
            else one(objects, "PersistentVolumeClaim")
        )
        revisions = 2 if kind == "shared" else 1
        assert size(claim["spec"]["resources"]["requests"]["storage"]) >= 1.05 * revisions * parameters * width


@pytest.mark.parametrize("gpus", [1, 4, 8])
def test_one_value_says_how_many_gpus(gpus: int):
    chart = helm("values-gpu-vllm.yaml", values={"gpu": {"count": gpus}})
    limit = [{"op": "replace", "path": "/spec/template/spec/containers/0/resources/limits/nvidia.com~1gpu"}]
    limit[0]["value"] = str(gpus)
    patches = [{"target": {"kind": "Deployment"}, "patch": json.dumps(limit)}]
    for objects in (chart, written(resources=["overlays/gpu-vllm"], patches=patches)):
        container = container_of(objects)
        (parallel,) = [
            one["value"] for one in container["env"] if one["name"] == "OPERA_VLLM__TENSOR_PARALLEL_SIZE"
        ]
        assert parallel == container["resources"]["limits"]["nvidia.com/gpu"] == str(gpus)
        assert "OPERA_VLLM__TENSOR_PARALLEL_SIZE" not in settings_of(objects)


def test_without_a_size_the_files_do_for_8b():
    check_fits(helm("values-gpu.yaml"), *MODELS["8B in bfloat16"])
