"""A reward pool lends its GPUs between steps, and gets them back when it is asked for."""

import pytest

from .cluster import Object, chart, container_of, helm, one, overlay, single, with_components

OVERLAYS_WITH_GPUS = ["gpu", "gpu-vllm", "gpu-vllm-70b"]


def quotas(queue: Object) -> dict[str, str]:
    (group,) = queue["spec"]["resourceGroups"]
    (flavor,) = group["flavors"]
    found = {resource["name"]: resource["nominalQuota"] for resource in flavor["resources"]}
    assert list(found) == group["coveredResources"], "in one order, or Kueue refuses it"
    return found


@pytest.mark.parametrize("name", OVERLAYS_WITH_GPUS)
def test_all_that_a_pod_asks_for_is_covered(name: str):
    """Kueue never lets in a pod that asks for something its queue does not know."""
    resources = container_of(overlay(name))["resources"]
    asked = {*resources["requests"], "nvidia.com/gpu"}
    for queue in ("opera-reward", "opera-reward-trainers"):
        assert asked <= quotas(one(single("kueue"), "ClusterQueue", queue)).keys()


def test_a_pod_of_eight_gpus_fits_the_rewards_own_quota():
    gpus = container_of(overlay("gpu-vllm-70b"))["resources"]["limits"]["nvidia.com/gpu"]
    assert int(gpus) <= int(quotas(one(single("kueue"), "ClusterQueue", "opera-reward"))["nvidia.com/gpu"])


def test_the_names_lead_from_the_deployment_to_the_cohort():
    objects, cluster = with_components("kueue"), single("kueue")
    labels = one(objects, "Deployment")["metadata"]["labels"]
    local = one(objects, "LocalQueue", labels["kueue.x-k8s.io/queue-name"])
    rewards = one(cluster, "ClusterQueue", local["spec"]["clusterQueue"])
    trainers = one(cluster, "ClusterQueue", "opera-reward-trainers")
    assert rewards["spec"]["cohortName"] == trainers["spec"]["cohortName"]
    assert one(cluster, "WorkloadPriorityClass", labels["kueue.x-k8s.io/priority-class"])["value"] > 0
    for queue in (rewards, trainers):
        (flavor,) = queue["spec"]["resourceGroups"][0]["flavors"]
        assert one(cluster, "ResourceFlavor", flavor["name"])


def test_what_is_lent_comes_back():
    rewards = one(single("kueue"), "ClusterQueue", "opera-reward")["spec"]
    assert rewards["preemption"]["reclaimWithinCohort"] == "Any"
    (gpus,) = [
        one_of for one_of in rewards["resourceGroups"][0]["flavors"][0]["resources"] if "lendingLimit" in one_of
    ]
    assert 0 < int(gpus["lendingLimit"]) <= int(gpus["nominalQuota"])


def test_a_release_has_its_own_queue():
    kueue = {"enabled": True, "clusterQueue": "team-a", "priorityClass": "serving"}
    objects = helm(values={"kueue": kueue}, name="judge", namespace="models")
    labels = one(objects, "Deployment")["metadata"]["labels"]
    assert (labels["kueue.x-k8s.io/queue-name"], labels["kueue.x-k8s.io/priority-class"]) == ("judge", "serving")
    assert one(objects, "LocalQueue", "judge")["spec"] == {"clusterQueue": "team-a"}


def test_no_pods_without_a_trainer_that_says_so():
    spec = one(with_components("keda-to-zero"), "ScaledObject")["spec"]
    queue, trainers = spec["triggers"]
    assert spec["minReplicaCount"] == 0
    assert "fallback" not in spec, "without Prometheus it would start pods for nobody"
    assert queue["metadata"]["ignoreNullValues"] == "true", "no pods show no queue, and that is no failure"
    assert trainers["type"] == "kubernetes-workload"
    assert trainers["metadata"]["podSelector"] == "opera-reward/active=true"
    assert spec["cooldownPeriod"] >= 300


def test_who_installs_it_is_warned_of_the_start():
    def notes(*, to_zero: bool) -> str:
        values = {"autoscaling": {"kind": "keda", "toZero": to_zero}}
        rendered = chart().render(values, name="judge", namespace="models")
        return next(text for path, text in rendered.items() if path.endswith("NOTES.txt"))

    assert "waits for a pod's start" in notes(to_zero=True)
    assert "waits for a pod's start" not in notes(to_zero=False)
